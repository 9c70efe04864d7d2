"""Segmentation: masks of structures from radiographs, by a network of `segmenters.SEGMENTERS`.

    python -m medcap_paddle.vision.segment train FOLDER... --out RUN
    python -m medcap_paddle.vision.segment predict RUN IMAGE... --out DIR
    python -m medcap_paddle.vision.segment evaluate RUN FOLDER...

`train` reads folders as `masked.LAYOUTS` has them, several together: a structure that nobody has drawn in an image does
not enter the loss. It writes RUN/, see `segmenter_run`.

`predict` takes images (PNG, JPEG, DICOM) and folders of them, and writes DIR/<structure>/<image name>.png, 0 and 255 at
the size of the image, and DIR/overlays/. `evaluate` measures on the val images of the folders, and on those that the
run has never seen; it writes RUN/overlaps.csv, a row a mask, and RUN/metrics.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from PIL import Image

from .. import image, splits
from ..config import TrainingSettings
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, cli_errors, read_table, write_json, write_table
from . import masked, overlap, segmenters
from .films import films
from .mask_losses import LOSSES
from .masked import Item
from .segmentation import Segmentation
from .segmenter_run import COLUMNS, FIX, Run, drawer, load, overlay, save
from .segmenters import SEGMENTERS
from .structures import Structured, channels, outputs

if TYPE_CHECKING:
    import pandas as pd


def train(
    folders: Sequence[str | Path],
    run_dir: str | Path,
    name: str = "unet",
    settings: TrainingSettings | None = None,
    size: int | None = None,
    loss: str = "",
    weights: str | Path | None = None,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train a network on the train images of `folders` and write the run; its history. See the module's docstring."""
    how = segmenters.named(name)
    how = replace(how, preprocessing=how.at(size), settings=settings or how.settings)
    loss = loss or next(iter(LOSSES))
    if loss not in LOSSES:
        raise MedcapError(f"no loss is called {loss!r}: choose {', '.join(LOSSES)}")
    found, table = split(folders, how.settings.seed)
    names = outputs(structure for item in found for structure in item.masks)
    parts = {part: [i for i, row in zip(found, table, strict=True) if row[-1] == part] for part in ("train", "tune")}
    for part, members in parts.items():
        if missing := set(names) - set(outputs(s for item in members for s in item.masks)):
            raise MedcapError(f"no image of {part} has a mask of {', '.join(sorted(missing))}: give more images")
    paddle.seed(how.settings.seed)
    network = Structured(how.build(len(channels(names))), names)
    if how.begin:
        how.begin(network.network, Path(weights) if weights else None)
    if not distributed.world()[0]:
        save(run_dir, name, names, loss, how, table)
    task = Segmentation(network, *(films(parts[part], names, how.preprocessing) for part in parts), how, loss)
    return loop.fit(network, task, run_dir, how.settings, on_epoch)


def split(folders: Sequence[str | Path], seed: int) -> tuple[list[Item], list[list[str]]]:
    """The items of all folders, and rows of `COLUMNS`. Each folder is divided by patient: an eighth is val, of the
    others a tenth tune, on which the epoch is chosen.
    """
    found, rows = [], []
    for folder in folders:
        every = masked.items(folder)
        members = [item for item in every if item.masks]
        if len(members) < len(every):
            print(f"{folder}: {len(every) - len(members)} of {len(every)} images have no mask and are left out")
        patients = {item.name: item.patient for item in members}
        where = splits.by_ratio(patients, "7:1", seed, patients)
        tune = splits.tune_part([name for name in where if where[name] == "train"], seed, patients)
        for item in members:
            part = "tune" if item.name in tune else where[item.name]
            rows.append([item.key(), Path(folder).resolve().name, item.path.name, item.patient, part])
        found += members
    return found, rows


# Commands -------------------------------------------------------------------------------------------------------------


def predict(run: Run, paths: Sequence[str | Path], out: str | Path) -> list[str]:
    """Write masks and overlays of images; the reasons of those that cannot be read."""
    named: dict[str, Path] = {}
    for path in chain.from_iterable(_images(Path(path)) for path in paths):
        if (name := masked.name_of(path)) in named:
            raise MedcapError(f"{named[name]} and {path} would have the same mask {name}.png: give them one at a time")
        named[name] = path
    errors = []
    with drawer(run, len(named)) as draw:
        for name, path in named.items():
            try:
                pixels = image.read(path)
            except MedcapError as error:
                errors.append(str(error))
                continue
            masks = draw(pixels)
            for structure, mask in masks.items():
                _save(Path(out) / structure / f"{name}.png", mask)
            _save(Path(out) / "overlays" / f"{name}.png", overlay(pixels, masks))
    print(f"{out}: masks of {', '.join(run.names)} for {len(named) - len(errors)} images")
    return errors


def _images(path: Path) -> list[Path]:
    """The images of a folder, or the path itself; MedcapError where there is none."""
    if not path.is_dir():
        return [path]
    found = [*masked.named(path).values()]
    if not found:
        raise MedcapError(f"{path} holds no image: give a folder of images")
    return found


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def evaluate(run_dir: str | Path, folders: Sequence[str | Path]) -> dict[str, dict[str, dict]]:
    """Measure a run on images that it has not learnt from: {folder: {structure: `overlap.means`}}; writes the files.

    MedcapError where all images of a folder were trained on.
    """
    import pandas as pd

    run, rows = load(run_dir), []
    table = read_table(Path(run_dir) / "images.csv", COLUMNS, FIX)
    learnt = set(table.key[table.split != "val"])
    for folder in folders:
        unseen = [item for item in masked.items(folder) if item.masks and item.key() not in learnt]
        if not unseen:
            raise MedcapError(f"the run was trained on all images of {folder}: give others")
        with drawer(run, len(unseen)) as draw:
            rows += [{"folder": str(folder), **row} for item in unseen for row in measured(item, draw)]
    found: dict[str, dict[str, dict]] = {}
    for (folder, name), part in pd.DataFrame(rows).groupby(["folder", "structure"]):
        found.setdefault(folder, {})[name] = overlap.means(part.to_dict("records"), part.patient)
    write_table(Path(run_dir) / "overlaps.csv", pd.DataFrame(rows))
    write_json(Path(run_dir) / "metrics.json", found)
    return found


def measured(item: Item, draw: Callable[[np.ndarray], dict[str, np.ndarray]]) -> list[dict]:
    """Rows of overlaps.csv: the overlaps of every structure that is drawn and that has a reference."""
    pixels, references = item.load()
    rows = []
    for name, mask in draw(pixels).items():
        if name in references:
            positive = bool(references[name].any())
            facts = {"image": item.path.name, "patient": item.patient, "structure": name, "positive": positive}
            rows.append(facts | overlap.measure(mask, references[name]))
    return rows


def show(found: dict[str, dict[str, dict]]) -> str:
    """A line a structure, as `evaluate` prints them."""
    lines = []
    for folder, structures in found.items():
        for name, facts in structures.items():
            low, high = (
                f"{value:.3f}" if (value := facts["dice"][end]) is not None else "-" for end in ("low", "high")
            )
            hd95 = facts["hd95"]["value"]
            distance = "-" if hd95 is None else f"{hd95:.1f}"
            text = f"{folder:16} {name:12} Dice {facts['dice']['value']:.3f} ({low} to {high}), IoU "
            text += f"{facts['iou']['value']:.3f}, Hausdorff 95 {distance} pixels, {facts['images']} images"
            lines.append(text)
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("python -m medcap_paddle.vision.segment", description="Masks of structures.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="train a network on folders of images with masks")
    one.add_argument("folders", nargs="+")
    one.add_argument("--out", required=True, help="folder of the run")
    one.add_argument("--segmenter", default="unet", choices=SEGMENTERS)
    one.add_argument("--loss", default=next(iter(LOSSES)), choices=LOSSES)
    one.add_argument("--weights", help="file of weights that the encoder begins with")
    for name, kind in (("size", int), ("epochs", int), ("batch-size", int), ("rate", float), ("seed", int)):
        one.add_argument(f"--{name}", type=kind)
    two = commands.add_parser("predict", help="write the masks of images")
    two.add_argument("run")
    two.add_argument("images", nargs="+")
    two.add_argument("--out", required=True, help="folder to write to")
    three = commands.add_parser("evaluate", help="measure a run on images that it has not learnt from")
    three.add_argument("run")
    three.add_argument("folders", nargs="+")
    return top


def _train(args: argparse.Namespace) -> None:
    given = {"epochs": args.epochs, "batch_size": args.batch_size, "learning_rate": args.rate, "seed": args.seed}
    given = {name: value for name, value in given.items() if value is not None}
    settings = replace(SEGMENTERS[args.segmenter].settings, **given)
    history = train(args.folders, args.out, args.segmenter, settings, args.size, args.loss, args.weights)
    if not distributed.world()[0]:
        print(history.tail(3).round(4).to_string(index=False))


def _predict(args: argparse.Namespace) -> None:
    if errors := predict(load(args.run), args.images, args.out):
        raise MedcapError("\n".join([*errors, f"{len(errors)} images were left out"]))


COMMANDS = {"train": _train, "predict": _predict, "evaluate": lambda a: print(show(evaluate(a.run, a.folders)))}


def main() -> None:
    args = parser().parse_args()
    with cli_errors():
        COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
