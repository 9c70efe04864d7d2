"""Segmentation: masks of structures from radiographs, by a network of `segmenters.SEGMENTERS`.

    python -m medcap_paddle.vision.segment train FOLDER... --out RUN
    python -m medcap_paddle.vision.segment predict [RUN] IMAGE... --out DIR
    python -m medcap_paddle.vision.segment evaluate [RUN] FOLDER... [--out DIR]
    python -m medcap_paddle.vision.segment pack RUN --out FILE

`train` reads folders as `masked.LAYOUTS` has them, several together. On a CPU each core has a process. It writes RUN/,
see `segmenter_run`; `pack` makes one file of it. Where RUN is left out, or is the word "shipped", the network is ours:
heart, both lungs and clavicles of a frontal film.

`predict` takes images (PNG, JPEG, DICOM) and folders of them, and writes DIR/<structure>/<image name>.png, 1 bit a
pixel at the size of the image, DIR/<structure>.csv with the same masks as run lengths (see `vision.masks`), and
DIR/overlays/.
`evaluate` measures on the val images of the folders, and on those that the run has never seen; it writes
DIR/overlaps.csv, a row a mask, and DIR/metrics.json, where DIR is RUN if it is a folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from .. import image
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, atomic, cli_errors, read_table, write_json, write_table
from . import job, masked, overlap
from .mask_losses import LOSSES
from .masked import Item
from .masks import RUN_LENGTHS, read_png, write_csv, write_png
from .segmentation import Plan, train
from .segmenter_run import SHIPPED, Run, drawn, load, overlay, pack
from .segmenters import SEGMENTERS


def predict(run: Run, paths: Sequence[str | Path], out: str | Path, form: str = "siim") -> list[str]:
    """Write masks, run lengths of that form and overlays of images; the reasons of those that cannot be read."""
    out, named = Path(out), {}
    for path in chain.from_iterable(_images(Path(path)) for path in paths):
        if (name := masked.name_of(path)) in named:
            raise MedcapError(f"{named[name]} and {path} would have the same mask {name}.png: give them one at a time")
        named[name] = path
    done, errors = [], []
    for name, pixels, masks in drawn(run, _readable(named, errors), len(named)):
        for structure, mask in masks.items():
            write_png(out / structure / f"{name}.png", mask)
        with atomic(out / "overlays" / f"{name}.png") as temporary:
            Image.fromarray(overlay(pixels, masks)).save(temporary, "PNG")
        done.append(name)
    for structure in run.names if done else ():
        written = ((name, read_png(out / structure / f"{name}.png")) for name in done)
        write_csv(out / f"{structure}.csv", written, form)
    print(f"{out}: masks of {', '.join(run.names)} for {len(done)} images")
    return errors


def _readable(named: dict[str, Path], errors: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pixels; the reasons of what cannot be read are added to `errors`."""
    for name, path in named.items():
        try:
            yield name, image.read(path)
        except MedcapError as error:
            errors.append(str(error))


def _images(path: Path) -> list[Path]:
    """The images of a folder, or the path itself; MedcapError where there is none."""
    if not path.is_dir():
        return [path]
    found = [*masked.named(path).values()]
    if not found:
        raise MedcapError(f"{path} holds no image: give a folder of images")
    return found


def evaluate(run: Run, folders: Sequence[str | Path], out: str | Path) -> dict[str, dict[str, dict]]:
    """Measure a run on images that it has not learnt from: {folder: {structure: `overlap.means`}}; writes the files.

    MedcapError where all images of a folder were learnt from.
    """
    import pandas as pd

    rows = []
    for folder in folders:
        with_masks = [item for item in masked.items(folder) if item.masks]
        unseen = run.unseen(with_masks)
        if not unseen:
            raise MedcapError(f"the run has learnt from all images of {folder}: give others")
        print(
            f"{folder}: {len(with_masks) - len(unseen)} of {len(with_masks)} images were learnt from and are left out"
        )
        rows += [{"folder": str(folder), **row} for row in measured(run, unseen)]
    if not rows:
        raise MedcapError(f"no image has a reference of {', '.join(run.names)}: give others")
    found: dict[str, dict[str, dict]] = {}
    for (folder, name), part in pd.DataFrame(rows).groupby(["folder", "structure"]):
        found.setdefault(folder, {})[name] = overlap.means(part.to_dict("records"), part.patient)
    write_table(Path(out) / "overlaps.csv", pd.DataFrame(rows))
    write_json(Path(out) / "metrics.json", found)
    return found


def measured(run: Run, items: Sequence[Item]) -> Iterator[dict]:
    """Rows of overlaps.csv: the overlaps of every structure that is drawn and that has a reference."""

    def loaded() -> Iterator[tuple[tuple[Item, dict[str, np.ndarray]], np.ndarray]]:
        for item in items:
            pixels, references = item.load()
            yield (item, references), pixels

    for (item, references), _, masks in drawn(run, loaded(), len(items)):
        for name, mask in masks.items():
            if name in references:
                positive = bool(references[name].any())
                facts = {"image": item.path.name, "patient": item.patient, "structure": name, "positive": positive}
                yield facts | overlap.measure(mask, references[name])


def show(found: dict[str, dict[str, dict]]) -> str:
    """A line a structure, as `evaluate` prints them."""

    def number(figure: dict, end: str = "value", digits: int = 3) -> str:
        return "-" if figure[end] is None else f"{figure[end]:.{digits}f}"

    def interval(figure: dict) -> str:
        return f"{number(figure)} ({number(figure, 'low')} to {number(figure, 'high')})"

    def line(folder: str, name: str, facts: dict) -> str:
        """Over the positive images too, where some are not."""
        positive = f" over positives {interval(facts['dice_positive'])}," if facts["positive"] < facts["images"] else ""
        rest = f"IoU {number(facts['iou'])}, Hausdorff 95 {number(facts['hd95'], digits=1)} pixels"
        return f"{folder:16} {name:12} Dice {interval(facts['dice'])},{positive} {rest}, {facts['images']} images"

    return "\n".join(
        line(Path(folder).name, *entry) for folder, structures in found.items() for entry in structures.items()
    )


# Commands -------------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("python -m medcap_paddle.vision.segment", description="Masks of structures.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="train a network on folders of images with masks")
    one.add_argument("folders", nargs="+", metavar="FOLDER")
    one.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    one.add_argument("--segmenter", default=Plan.name, choices=SEGMENTERS)
    one.add_argument("--structures", nargs="+", default=[], metavar="NAME", help="learn these only")
    one.add_argument("--showing", default="", metavar="NAME", help="learn from images only that show this structure")
    one.add_argument("--loss", default=Plan.loss, choices=LOSSES)
    one.add_argument("--weights", default="", help="file of weights that the encoder begins with")
    one.add_argument("--start", default="", metavar="RUN", help="a run to continue from, as on smaller images")
    for name, kind in (("size", int), ("epochs", int), ("batch-size", int), ("rate", float), ("seed", int)):
        one.add_argument(f"--{name}", type=kind)
    two = commands.add_parser("predict", help="write the masks of images")
    two.add_argument("paths", nargs="+", metavar="[RUN] IMAGE", help="images or folders of them; first a run, or ours")
    two.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    two.add_argument("--run-lengths", default="siim", choices=RUN_LENGTHS)
    three = commands.add_parser("evaluate", help="measure a run on images that it has not learnt from")
    three.add_argument("paths", nargs="+", metavar="[RUN] FOLDER", help="folders; first a run, or ours")
    three.add_argument("--out", metavar="DIR", help="folder to write to; that of the run where it is one")
    four = commands.add_parser("pack", help="make one file of a run")
    four.add_argument("run", metavar="RUN")
    four.add_argument("--out", required=True, metavar="FILE.safetensors")
    four.add_argument("--note", default="", help="whose images it has learnt from, and on what terms")
    return top


def _run_and(paths: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """Where the network lies, and the other paths: the first one names it, or it is ours."""
    first = Path(paths[0])
    if paths[0] == "shipped":
        return SHIPPED, paths[1:]
    if (first / "config.json").exists() or first.suffix == SHIPPED.suffix:
        return first, paths[1:]
    return SHIPPED, paths


def _train(args: argparse.Namespace) -> None:
    """A process a core on a CPU; each has its part of a batch."""
    given = {"epochs": args.epochs, "batch_size": args.batch_size, "learning_rate": args.rate, "seed": args.seed}
    settings = replace(SEGMENTERS[args.segmenter].settings, **{k: v for k, v in given.items() if v is not None})
    alone = distributed.world()[1] == 1 and paddle.device.get_device() == "cpu"
    processes = int(os.environ["OMP_NUM_THREADS"]) if alone else 1
    settings = replace(settings, batch_size=max(1, settings.batch_size // processes))
    common = tuple(args.folders), args.out, args.segmenter, settings, args.size, args.loss, args.weights
    plan = Plan(*common, tuple(args.structures), args.showing, args.start)
    plan.how()
    if processes > 1:
        job.spawn(train, plan, processes)
    else:
        train(plan)
    if not distributed.world()[0]:
        print(read_table(Path(args.out) / loop.HISTORY, ["epoch"], "").tail(3).to_string(index=False))


def _predict(args: argparse.Namespace) -> None:
    path, images = _run_and(args.paths)
    if not images:
        raise MedcapError("no image is given: name images, or folders of them")
    if errors := predict(load(path), images, args.out, args.run_lengths):
        raise MedcapError("\n".join([*errors, f"{len(errors)} images were left out"]))


def _evaluate(args: argparse.Namespace) -> None:
    path, folders = _run_and(args.paths)
    out = args.out or (path if path.is_dir() else None)
    if not folders or not out:
        raise MedcapError("give a folder of images with masks, and --out where the run is a file")
    print(show(evaluate(load(path), folders, out)))


COMMANDS = {
    "train": _train,
    "predict": _predict,
    "evaluate": _evaluate,
    "pack": lambda args: pack(args.run, args.out, args.note),
}


def main() -> None:
    args = parser().parse_args()
    with cli_errors():
        COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
