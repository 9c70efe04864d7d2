"""Segmentation: masks of structures from radiographs, by a network of `segmenters.SEGMENTERS`.

    python -m medcap_paddle.vision.segment train FOLDER... --out RUN
    python -m medcap_paddle.vision.segment predict RUN IMAGE... --out DIR
    python -m medcap_paddle.vision.segment evaluate RUN FOLDER...

`train` reads folders as `masked.LAYOUTS` has them, several together: a structure that nobody has drawn in an image does
not enter the loss. It writes RUN/

    config.json           network, structures, loss, preprocessing, settings; sealed
    images.csv            key (digest of the file), folder, image, patient, split: train, tune or val
    weights.safetensors   and history.csv, visualdl/: see `runtime.loop`; of the epoch with the best Dice on tune

`predict` takes images (PNG, JPEG, DICOM) and folders of them, and writes DIR/<structure>/<image name>.png, 0 and 255 at
the size of the image, and DIR/overlays/. `evaluate` measures on the val images of the folders, and on those that the
run has never seen; it writes RUN/overlaps.csv, a row a mask, and RUN/metrics.json.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from PIL import Image

from .. import encoder, image, splits
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, cli_errors, read_sealed, read_table, write_json, write_sealed, write_table
from ..runtime.workers import map_ordered
from . import masked, overlap, predictor, segmenters
from .augment import augment_masked
from .mask_losses import LOSSES
from .masked import Item
from .segmenters import SEGMENTERS, Segmenter
from .square import placement
from .structures import Structured, channels, outputs

FIX = "train it again: python -m medcap_paddle.vision.segment train"
COLUMNS = ["key", "folder", "image", "patient", "split"]
MANY = 16  # images for which an inference program is worth its export
COLOURS = ((230, 60, 60), (60, 160, 230), (70, 200, 110), (240, 180, 40), (190, 90, 220), (240, 120, 40))


# Images and masks in the square ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Films:
    """Images and masks as the network meets them."""

    images: np.ndarray  # uint8 [N, S, S]
    masks: np.ndarray  # bool [N, C, S, S]
    known: np.ndarray  # bool [N, C]: somebody has drawn it

    def __len__(self) -> int:
        return len(self.images)


def films(found: Sequence[Item], names: Sequence[str], preprocessing: Preprocessing) -> Films:
    """The films of these items for the structures `names`; MedcapError where a file cannot be read."""
    size = preprocessing.size
    images = np.zeros((len(found), size, size), np.uint8)
    masks = np.zeros((len(found), len(names), size, size), bool)
    known = np.zeros((len(found), len(names)), bool)
    for k, item in enumerate(found):
        pixels, drawn = item.load()
        images[k] = squared(pixels, preprocessing)
        for c, name in enumerate(names):
            if name in drawn:
                known[k, c] = True
                masks[k, c] = squared(drawn[name].astype(np.uint8) * 255, preprocessing) > 127
    return Films(images, masks, known)


def squared(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 [H, W] in its square, uint8 [S, S], as `image.transform` places it."""
    at = replace(preprocessing, mean=(0.0,), std=(1.0,))
    return np.rint(image.transform(pixels, at)[0] * 255).astype(np.uint8)


def restored(square: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of the placement: float32 [S, S] to [H, W], between pixels linear."""
    part = np.ascontiguousarray(square[placement(shape, square.shape[-1])], dtype=np.float32)
    return np.asarray(Image.fromarray(part).resize(shape[::-1], Image.Resampling.BILINEAR))


# Training -------------------------------------------------------------------------------------------------------------


class Segmentation(loop.Task):
    """The loss of every drawn structure of every image; the mean Dice on `tune` chooses the epoch.

    On R ranks a batch of R times `batch_size` is shared out, and its loss is that of one process.
    """

    best = "tune_error"  # 1 - mean Dice

    def __init__(self, network, train: Films, tune: Films, how: Segmenter, loss: str):
        self.network, self.train, self.tune, self.how, self.name = network, train, tune, how, loss
        self.rank, self.count = distributed.world()
        self.batch_size = how.settings.batch_size * self.count
        self.steps = math.ceil(len(train) / self.batch_size)

    def inputs(self) -> list[object]:
        arrays = [array for part in (self.train, self.tune) for array in (part.images, part.masks, part.known)]
        return [self.name, self.how.preprocessing.record(), asdict(self.how.augmentation), *arrays]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        seed = self.how.settings.seed, epoch
        order = np.random.default_rng(seed).permutation(len(self.train))
        jobs = ((order[k : k + self.batch_size], seed) for k in range(0, len(order), self.batch_size))
        for batch, entries in map_ordered(self._batch, jobs, ahead=2, workers=1):
            yield len(batch[0]), [paddle.to_tensor(array) for array in batch], self.count / max(1, entries)

    def _batch(self, rows: np.ndarray, seed: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
        """This rank's images, masks and known; and how many masks the batch of all ranks has."""
        entries, mine = int(self.train.known[rows].sum()), distributed.shard(rows)
        weight = self.train.known[mine] if len(mine) else np.zeros_like(self.train.known[:1])
        items = [self._item(k, seed) for k in (mine if len(mine) else rows[:1])]
        images, masks = (np.stack(column) for column in zip(*items, strict=True))
        return [images, masks.astype(np.float32), weight.astype(np.float32)], entries

    def _item(self, k: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*seed, int(k)])
        pixels, masks = augment_masked(self.train.images[k], self.train.masks[k], rng, self.how.augmentation)
        return image.transform(pixels, self.how.preprocessing), masks

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        images, masks, known = (tensor[part] for tensor in batch)
        total = (LOSSES[self.name](network(images), masks) * known).sum()
        return total * share, paddle.stack([total.detach(), known.sum()])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"loss": sums[0] / max(1.0, sums[1])}

    def validate(self) -> dict[str, float]:
        names, sums = self.network.names, np.zeros((2, len(self.network.names)))
        self.network.eval()
        rows = distributed.shard(np.arange(len(self.tune)))
        for k in (rows[i : i + 8] for i in range(0, len(rows), 8)):
            pictures = np.stack([image.transform(self.tune.images[i], self.how.preprocessing) for i in k])
            with paddle.no_grad():
                drawn = self.network(paddle.to_tensor(pictures)).numpy() > 0
            for i, masks in zip(k, drawn, strict=True):
                for c in np.flatnonzero(self.tune.known[i]):
                    sums[:, c] += overlap.dice(masks[c], self.tune.masks[i, c]), 1
        sums = np.asarray(distributed.all_reduce_sum(sums))
        found = {name: sums[0, c] / sums[1, c] for c, name in enumerate(names) if sums[1, c]}
        return {"tune_error": 1 - float(np.mean([*found.values()])), **{f"tune_{n}": v for n, v in found.items()}}


def train(
    folders: Sequence[str | Path],
    run_dir: str | Path,
    name: str = "unet",
    settings: TrainingSettings | None = None,
    size: int | None = None,
    loss: str = "",
    weights: str | Path | None = None,
    on_epoch=None,
):
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
        write_config(run_dir, name, names, loss, how, table)
    task = Segmentation(network, *(films(parts[part], names, how.preprocessing) for part in parts), how, loss)
    return loop.fit(network, task, run_dir, how.settings, on_epoch)


def split(folders: Sequence[str | Path], seed: int) -> tuple[list[Item], list[list[str]]]:
    """The items of all folders, and rows of `COLUMNS`. Each folder is divided by patient: an eighth is val, of the
    others a tenth tune, on which the epoch is chosen.
    """
    found, rows = [], []
    for folder in folders:
        members = masked.items(folder)
        patients = {item.name: item.patient for item in members}
        where = splits.by_ratio(patients, "7:1", seed, patients)
        tune = splits.tune_part([name for name in where if where[name] == "train"], seed, patients)
        for item in members:
            part = "tune" if item.name in tune else where[item.name]
            rows.append([item.key(), str(Path(folder).name), item.path.name, item.patient, part])
        found += members
    return found, rows


# A run ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network in evaluation mode."""

    network: Structured
    names: tuple[str, ...]
    preprocessing: Preprocessing


def write_config(run_dir: str | Path, name: str, names: list[str], loss: str, how: Segmenter, table: list) -> None:
    import pandas as pd

    facts = {"segmenter": name, "structures": names, "loss": loss, "settings": asdict(how.settings)}
    write_sealed(Path(run_dir) / "config.json", facts | {"preprocessing": how.preprocessing.record()})
    write_table(Path(run_dir) / "images.csv", pd.DataFrame(table, columns=COLUMNS))


def load(run_dir: str | Path) -> Run:
    """Open a run; nothing executes. MedcapError when a file is missing, damaged or of another network."""
    config = Path(run_dir) / "config.json"
    facts = read_sealed(config, FIX)
    if facts.get("segmenter") not in SEGMENTERS:
        raise MedcapError(f"{config} names no segmenter of {', '.join(SEGMENTERS)}: {FIX}")
    names = facts["structures"]
    network = Structured(SEGMENTERS[facts["segmenter"]].build(len(channels(names))), names)
    loop.load_weights(network, Path(run_dir) / loop.WEIGHTS, FIX)
    network.eval()
    preprocessing = Preprocessing.from_record(facts.get("preprocessing"), f"the run {run_dir}", FIX)
    return Run(network, tuple(names), preprocessing)


def masks_of(run: Run, images: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The masks of each image uint8 [H, W], by structure: bool [H, W], where the probability exceeds one half."""
    with tempfile.TemporaryDirectory() as folder:
        seer = encoder.build(run.network, "segmenter", "run", run.preprocessing, ("logits",))
        compute = predictor.fast(seer, folder, exact=True)[0] if len(images) >= MANY else predictor.eager(seer)
        compute = predictor.within_memory(compute)
        for pixels in images:
            logits = compute(image.transform(pixels, run.preprocessing)[None])["logits"][0]
            probabilities = F.sigmoid(paddle.to_tensor(logits)).numpy()
            drawn = (restored(square, pixels.shape) > 0.5 for square in probabilities)
            yield dict(zip(run.names, drawn, strict=True))


def overlay(pixels: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """The image with the border of each mask in a colour of its own, uint8 [H, W, 3]."""
    out = np.repeat(pixels[..., None], 3, 2)
    for k, mask in enumerate(masks.values()):
        out[overlap.border(mask)] = COLOURS[k % len(COLOURS)]
    return out


# Commands -------------------------------------------------------------------------------------------------------------


def predict(run: Run, paths: Sequence[str | Path], out: str | Path) -> list[str]:
    """Write masks and overlays of images; the reasons of those that cannot be read."""
    named: dict[str, Path] = {}
    for path in (file for path in map(Path, paths) for file in _images(path)):
        if (name := masked.name_of(path)) in named:
            raise MedcapError(f"{named[name]} and {path} would have the same mask {name}.png: give them one at a time")
        named[name] = path
    pictures, errors = {}, []
    for name, path in named.items():
        try:
            pictures[name] = image.read(path)
        except MedcapError as error:
            errors.append(str(error))
    for (name, pixels), masks in zip(pictures.items(), masks_of(run, [*pictures.values()]), strict=True):
        for structure, mask in masks.items():
            _save(Path(out) / structure / f"{name}.png", mask)
        _save(Path(out) / "overlays" / f"{name}.png", overlay(pixels, masks))
    print(f"{out}: masks of {', '.join(run.names)} for {len(pictures)} images")
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
        loaded = [item.load() for item in unseen]
        drawn = masks_of(run, [pixels for pixels, _ in loaded])
        for item, (_, references), masks in zip(unseen, loaded, drawn, strict=True):
            for name in (name for name in run.names if name in references):
                facts = {"folder": Path(folder).name, "image": item.path.name, "patient": item.patient}
                positive = {"structure": name, "positive": bool(references[name].any())}
                rows.append(facts | positive | overlap.measure(masks[name], references[name]))
    found: dict[str, dict[str, dict]] = {}
    for (folder, name), part in pd.DataFrame(rows).groupby(["folder", "structure"]):
        found.setdefault(folder, {})[name] = overlap.means(part.to_dict("records"), part.patient)
    write_table(Path(run_dir) / "overlaps.csv", pd.DataFrame(rows))
    write_json(Path(run_dir) / "metrics.json", found)
    return found


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
