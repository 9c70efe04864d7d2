"""The run of a segmenter, RUN/: everything that drawing masks needs, and nothing executes when it is opened.

config.json           network, structures, loss, preprocessing, settings; sealed
images.csv            key (digest of the file), folder, image, patient, split: train, tune or val
weights.safetensors   and history.csv, visualdl/: see `runtime.loop`; of the epoch with the best Dice on tune
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F

from .. import encoder, image
from ..image import Preprocessing
from ..runtime import loop
from ..runtime.files import MedcapError, read_sealed, write_sealed, write_table
from . import overlap, predictor
from .films import restored
from .segmenters import SEGMENTERS, Segmenter
from .structures import Structured, channels

FIX = "train it again: python -m medcap_paddle.vision.segment train"
COLUMNS = ["key", "folder", "image", "patient", "split"]
MANY = 16  # images for which an inference program is worth its export
COLOURS = ((230, 60, 60), (60, 160, 230), (70, 200, 110), (240, 180, 40), (190, 90, 220), (240, 120, 40))


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network in evaluation mode."""

    network: Structured
    names: tuple[str, ...]
    preprocessing: Preprocessing


def save(run_dir: str | Path, name: str, names: list[str], loss: str, how: Segmenter, table: list) -> None:
    """All but the weights; `table` has rows of `COLUMNS`."""
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


@contextmanager
def drawer(run: Run, count: int) -> Iterator[Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """A function of an image, uint8 [H, W], that gives its masks by structure: bool [H, W], where the probability
    exceeds one half. `count` images are to come: many are worth the export of an inference program.
    """
    with tempfile.TemporaryDirectory() as folder:
        reader = encoder.build(run.network, "segmenter", "run", run.preprocessing, ("logits",))
        compute = predictor.fast(reader, folder, exact=True)[0] if count >= MANY else predictor.eager(reader)

        def draw(pixels: np.ndarray) -> dict[str, np.ndarray]:
            logits = compute(image.transform(pixels, run.preprocessing)[None])["logits"][0]
            squares = F.sigmoid(paddle.to_tensor(logits)).numpy()
            drawn = (restored(square, pixels.shape) > 0.5 for square in squares)
            return dict(zip(run.names, drawn, strict=True))

        yield draw


def overlay(pixels: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """The image with the border of each mask in a colour of its own, uint8 [H, W, 3]."""
    out = np.repeat(pixels[..., None], 3, 2)
    for k, mask in enumerate(masks.values()):
        out[overlap.border(mask)] = COLOURS[k % len(COLOURS)]
    return out
