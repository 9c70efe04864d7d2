"""The reader of lines: a CRNN, its alphabet, how it is trained, and its file.

train(films, settings, folder)  -> Reader and history, by the one loop (`runtime.loop`)
Reader.read(crops)              -> (text, confidence) of each; "" where there is no text
reader.safetensors              float16 weights; facts: alphabet, settings, what it was trained on
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from ..config import TrainingSettings
from ..runtime import loop
from ..runtime.files import MedcapError, read_tensors, write_tensors
from ..runtime.workers import map_ordered
from . import ctc, lines
from .crnn import CRNN, CRNNSettings

if TYPE_CHECKING:
    import pandas as pd

# Trained in three rounds, 126 epochs in all: SETTINGS; seed 1, 20 epochs, a learning rate of 2.5e-3; seed
# 2, 90 epochs, 3e-3. The loss fell from .57 to .34 to .15.
SHIPPED = Path(__file__).with_name("reader.safetensors")
SETTINGS = TrainingSettings(epochs=16, batch_size=16, learning_rate=4e-3, warmup=0.05)
LINES = 3200  # drawn anew in every epoch
CHUNK = 16  # batches whose lines are drawn at a time and sorted by width
EMPTY = 0.2  # share of the lines that have no text
ROWS = 64  # lines that are read at once
RARE = np.log(1e-4)  # of a step: what is less probable, the search does not follow


@dataclass(frozen=True)
class Source:
    """Where lines come from: patches of `films`, texts, fonts."""

    films: Sequence[np.ndarray]  # gray [H, W] each, without text
    fonts: Sequence[str] = lines.SEEN
    text: Callable[[np.random.Generator], str] = lines.text
    empty: float = EMPTY
    narrow: float = 1.0
    decoys: Sequence[np.ndarray] = ()  # pieces of film without text that look like it: most of what is empty

    def draw(self, seed: Sequence[int]) -> tuple[np.ndarray, str]:
        """A line as the detector cuts it out, uint8 [H, W], and its text; the same for the same seed."""
        rng = np.random.default_rng(seed)
        text = "" if rng.random() < self.empty else self.text(rng)
        if not text and len(self.decoys) and rng.random() < 0.8:
            return self.decoys[rng.integers(len(self.decoys))], text
        film, font = self.films[rng.integers(len(self.films))], str(rng.choice(list(self.fonts)))
        return lines.draw(text, font, film, rng, self.narrow), text


class Reading(loop.Task):
    """The CTC loss of lines that are drawn for each epoch; on several ranks each draws its own."""

    def __init__(
        self,
        source: Source,
        settings: TrainingSettings,
        count: int = LINES,
        alphabet: str = lines.ALPHABET,
        step: int = CRNNSettings().step,
    ):
        self.source, self.settings, self.alphabet, self.step = source, settings, alphabet, step
        self.steps = count // settings.batch_size

    def inputs(self) -> list[object]:
        sample = [self.source.draw([self.settings.seed, 0, k]) for k in range(20)]
        return [self.alphabet, self.steps, *(text for _, text in sample), *(crop for crop, _ in sample)]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        rank, _ = loop.distributed.world()
        chunks = ((epoch, rank, first) for first in range(0, self.steps, CHUNK))
        for chunk in map_ordered(self._chunk, chunks, ahead=1, workers=1):
            for pixels, texts in chunk:
                yield len(texts), (paddle.to_tensor(pixels), texts), 1.0

    def _chunk(self, epoch: int, rank: int, first: int) -> list[tuple[np.ndarray, list[tuple[int, ...]]]]:
        size = self.settings.batch_size
        count, seed = min(CHUNK, self.steps - first) * size, [self.settings.seed, epoch, rank]
        drawn = [self.source.draw([*seed, first * size + k]) for k in range(count)]
        rows = sorted(((lines.fit(crop), lines.encode(text, self.alphabet)) for crop, text in drawn), key=_width)
        batches = [batch(*zip(*part, strict=True), self.step) for part in _parts(rows, size)]
        return [batches[k] for k in np.random.default_rng([*seed, first]).permutation(len(batches))]

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        pixels, texts = batch
        loss = ctc.loss(network(pixels[part]), texts[part]).sum() * (share / len(texts))
        return loss, loss.detach().reshape([1])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"loss": float(sums[0]) / self.steps / loop.distributed.world()[1]}


def _width(row: tuple[np.ndarray, tuple[int, ...]]) -> int:
    return row[0].shape[1]


def _parts(rows: list, size: int) -> Iterator[list]:
    return (rows[k : k + size] for k in range(0, len(rows), size))


def batch(
    pixels: Sequence[np.ndarray], texts: Sequence[tuple[int, ...]], step: int = 4
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Lines [32, W] of several widths as one array [B, 1, 32, W]: the last column of each is repeated.

    Wide enough for every text where a step takes `step` pixels: a squeezed line may have too few.
    """
    width = max(line.shape[1] for line in pixels)
    width = max(width, step * (1 + max(1, *map(ctc.steps_needed, texts), 1)))
    padded = [np.pad(line, [(0, 0), (0, width - line.shape[1])], mode="edge") for line in pixels]
    return np.stack(padded)[:, None], list(texts)


@dataclass
class Reader:
    network: CRNN
    alphabet: str

    def all_log_p(self, crops: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`log_p` of each line; those of one width share a batch, so that none is padded."""
        fitted, found = [lines.fit(crop) for crop in crops], [np.zeros(0)] * len(crops)
        self.network.eval()
        for width in {line.shape[1] for line in fitted}:
            rows = [k for k, line in enumerate(fitted) if line.shape[1] == width]
            for part in _parts(rows, ROWS):
                with paddle.no_grad():
                    logits = self.network(paddle.to_tensor(np.stack([fitted[k] for k in part])[:, None]))
                    log_p = nn.functional.log_softmax(logits, -1).numpy().astype("float64")  # [T, B, C]
                for column, k in enumerate(part):
                    found[k] = log_p[:, column]
        return found

    def log_p(self, crop: np.ndarray) -> np.ndarray:
        """Log probabilities [T, C] of a line of gray values [H, W]."""
        return self.all_log_p([crop])[0]

    def read(self, crops: Sequence[np.ndarray], width: int = 8) -> list[tuple[str, float]]:
        """The most probable text of each line by a prefix beam of `width`, and its probability."""
        found = (self._best(log_p, width) for log_p in self.all_log_p(crops))
        return [(lines.decode(text, self.alphabet), float(np.exp(log_p))) for text, log_p in found]

    @staticmethod
    def _best(log_p: np.ndarray, width: int) -> tuple[ctc.Text, float]:
        empty = log_p[:, ctc.BLANK].sum()  # one path alone has no text: above a half, no search is needed
        return ((), empty) if empty > np.log(0.5) else ctc.prefix_beam(log_p, width, RARE)

    def save(self, path: str | Path, facts: dict | None = None) -> None:
        tensors = {name: t.numpy().astype(np.float16) for name, t in self.network.state_dict().items()}
        settings = {"alphabet": self.alphabet, "settings": asdict(self.network.settings)}
        write_tensors(path, tensors, {**settings, **(facts or {})})


def build(settings: CRNNSettings | None = None, alphabet: str = lines.ALPHABET, seed: int = 0) -> Reader:
    """A reader that has learnt nothing."""
    paddle.seed(seed)
    return Reader(CRNN(settings or CRNNSettings(), len(alphabet) + 1), alphabet)


def load(path: str | Path = SHIPPED) -> Reader:
    """The reader of a file. MedcapError where it is missing, damaged, or of another kind."""
    remedy = "run 42_crnn.ipynb"
    tensors, facts = read_tensors(path, remedy)
    try:
        kept = dict(facts["settings"])
        settings = CRNNSettings(**{**kept, "pools": tuple(map(tuple, kept["pools"]))})
        reader = build(settings, facts["alphabet"])
        wrong = {n for n, t in reader.network.state_dict().items() if list(tensors[n].shape) != list(t.shape)}
    except (KeyError, TypeError, ValueError) as error:
        raise MedcapError(f"{path} is no reader of lines ({error}): {remedy}") from error
    if wrong:
        raise MedcapError(f"{path} has other shapes in {', '.join(sorted(wrong))}: {remedy}")
    reader.network.set_state_dict({name: array.astype(np.float32) for name, array in tensors.items()})
    reader.network.eval()
    return reader


def train(
    source: Source,
    folder: str | Path,
    settings: TrainingSettings = SETTINGS,
    count: int = LINES,
    reader: Reader | None = None,
) -> tuple[Reader, pd.DataFrame]:
    """A reader trained on `count` lines an epoch, and the loss of each; `folder` as `loop.fit` writes it."""
    reader = reader or build(seed=settings.seed)
    task = Reading(source, settings, count, reader.alphabet, reader.network.settings.step)
    return reader, loop.fit(reader.network, task, folder, settings)


def errors(read: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Of each line [n, 3]: edits (Levenshtein) from the text, letters of the text, 1 where it is exact."""
    from nltk import edit_distance

    rows = [(edit_distance(a, b), len(b), a == b) for a, b in zip(read, texts, strict=True)]
    return np.array(rows, float).reshape(-1, 3)


def rates(errors: np.ndarray) -> dict[str, dict[str, float]]:
    """Character error rate and share of exact lines with 95% intervals: the bootstrap over lines."""
    from ..metrics.bootstrap import spreads

    combine = {"cer": lambda s: s[:, 0] / s[:, 1], "exact": lambda s: s[:, 0] / s[:, 1]}
    counts = {"cer": errors[:, :2], "exact": np.stack([errors[:, 2], np.ones(len(errors))], 1)}
    return {name: spread.as_json() for name, spread in spreads(counts, combine, 1000).items()}
