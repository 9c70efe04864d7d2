"""The shipped encoder's training: made-up studies, drawn (`make encoder`).

    python -m medcap_paddle.phantom.pretrain [--images N] [--start NAME|PATH] [--epochs E] [--size S] [--rate R]
                                             [--seed N] [--out PATH]

`vision.job` says what is written, and how it resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..clinical.findings import KINDS, LABELS, label_vector
from ..clinical.phrasing import sample_findings
from ..encoder import SHIPPED
from ..runtime.files import MedcapError, cli_errors
from ..vision import job
from ..vision.pretrain import Pairs
from ..vision.trainable import USUAL, resolve
from .draw import draw

# Collections count their seeds from 0 and draw patients below 2**32: ours lie above, so no phantom is seen twice.
SEEDS = 2**40
HELD_OUT = 1_000_000  # the first study of those that measure, far behind those that train
MEASURED = 1000  # studies
DRAWABLE = tuple(name for name, kind in KINDS.items() if kind.label is not None)


@dataclass(frozen=True)
class Drawn:
    """Two drawings of each of `images` / 2 studies; a `job.Source`."""

    images: int
    labels: ClassVar = LABELS

    def inputs(self) -> list[object]:
        example = phantoms(range(2))[0]  # one of each kind of study: a changed drawing is a changed input
        return [self.images, *(array for pair in example for array in pair)]

    def training(self, rank: int, count: int) -> Pairs:
        share = self.images // 2 // count
        return phantoms(range(rank * share, (rank + 1) * share), progress=not rank)[0]

    def unseen(self) -> tuple[Pairs, list[str]]:
        return phantoms(range(HELD_OUT, HELD_OUT + MEASURED), "collection", progress=True)


def phantoms(studies: range, like: str = "training", progress: bool = False) -> tuple[Pairs, list[str]]:
    """Frontal and lateral of made-up studies with the labels of the study, and the study of each picture.

    For training, half the studies draw every labelled kind equally often, and several at once: an encoder must also
    know what is rare, and a picture costs the same whatever is on it.
    The others, and all that are like a "collection", draw kinds as often as a phantom collection does.
    """
    from tqdm.auto import tqdm

    pairs, study_ids = [], []
    for index in tqdm(studies, "drawing", unit="study", disable=not progress):
        rng = np.random.default_rng([SEEDS, index])
        if like == "collection":
            findings = sample_findings(rng)
        else:
            findings = sample_findings(rng, 0.1, DRAWABLE, [0.2] * 5) if index % 2 else sample_findings(rng, 0.2)
        pairs += [(draw(findings, view, SEEDS + index), label_vector(findings)) for view in ("frontal", "lateral")]
        study_ids += [str(index)] * 2
    return pairs, study_ids


def main() -> None:
    parser = job.parser("python -m medcap_paddle.phantom.pretrain", "Train the small encoder on drawings.")
    parser.add_argument("--images", type=int, default=10_000, help="drawn to train on, two a study")
    args = parser.parse_args()
    with cli_errors():
        if not args.out and (name := resolve(args.start)[0]) != USUAL:
            raise MedcapError(f"the package ships an encoder called {USUAL}, and this one is {name}: give --out")
    job.command(args, lambda *_: Drawn(args.images), args.out or SHIPPED)  # by default the encoder of the package


if __name__ == "__main__":
    main()
