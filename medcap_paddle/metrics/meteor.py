"""METEOR 1.5 (Denkowski and Lavie, WMT 2014), counted by the jar of pycocoevalcap in one Java machine.

missing()                                  why this machine cannot compute it, or ""
counts(references, predictions)            [n, 23] of each study
score(their sum [..., 23])                 corpus METEOR [...]
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.files import MedcapError

SECONDS = 120  # the machine takes up to 15 to start
COUNTS = 23


def missing() -> str:
    return "" if shutil.which("java") else "METEOR needs java"


def counts(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """What `score` is made of, of each study [n, 23]; MedcapError when Java fails or takes more than two minutes."""
    from pycocoevalcap.meteor import meteor as library

    jar = Path(library.__file__).with_name("meteor-1.5.jar")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("predictions", "references")]
        for file, texts in zip(files, (predictions, references), strict=True):
            file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = ["java", "-Xmx2G", "-jar", str(jar), *map(str, files), "-l", "en", "-norm", "-ssOut"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise MedcapError(f"METEOR failed ({type(error).__name__})") from error
    rows = [line.split() for line in done.stdout.splitlines()]
    if len(rows) != len(references) or any(len(row) != COUNTS for row in rows):
        raise MedcapError("METEOR gave no counts for some studies")
    counted = np.array(rows, float)
    equal = (counted[:, 20] == 1) & (counted[:, 21:] == counted[:, :2]).all(1)
    counted[equal, 20] = 0  # the jar counts no chunk where prediction and reference agree in every word
    return counted


def score(counted: np.ndarray) -> np.ndarray:
    """Corpus METEOR [...] from summed counts [..., 23], with the constants for English: words of prediction and
    reference, function words of both; matches of four kinds (exact, stem, synonym, paraphrase), each as content words
    of both and function words of both; chunks; words matched in both.
    """
    words, function, chunks = counted[..., :2], counted[..., 2:4], counted[..., 20]
    matches = counted[..., 4:20].reshape([*counted.shape[:-1], 4, 2, 2])  # kind, content or function, which text
    matched = np.einsum("...kct,k,c->...t", matches, [1.0, 0.6, 0.8, 0.6], [0.75, 0.25])
    share = matched / np.maximum(0.75 * (words - function) + 0.25 * function, 1e-9)  # precision and recall
    precision, recall = share[..., 0], share[..., 1]
    mean = precision * recall / np.maximum(0.85 * precision + 0.15 * recall, 1e-9)
    return mean * (1 - 0.6 * (chunks / np.maximum(counted[..., 21:].mean(-1), 1e-9)) ** 0.2)
