"""A trained run writes its reports: predictions.csv for a split, or a caption for your own images.

runs/<run>/predictions.csv:

    study_id, reference    the cleaned report of the radiologist
    prediction, score      the best report of the beam and its score (beam_search defines it)
    nll, words             -log p of the reference, and the number of words it is over (perplexity is made of them)

    python -m medcap_paddle.generate RUN_DIR IMAGE [IMAGE ...]    a report for the views of one study
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import encoder, feature_file, features, runs
from .beam_search import beam_search
from .config import Config
from .dataset import Batch, Studies
from .loss import token_nll
from .models.decoder import Decoder
from .runtime import cache
from .runtime.files import cli_errors, digest, lock, read_table, write_table
from .runtime.loop import tensors
from .runtime.quiet import ignore_harmless
from .vocab import decode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

COLUMNS = ["study_id", "reference", "prediction", "score", "nll", "words"]
FIX = "run 05_generate.ipynb"


def search(
    model: Decoder, vocab: Vocab, inputs: dict[str, np.ndarray], config: Config
) -> list[list[tuple[str, float]]]:
    """The n-best reports of each study, best first, as (text, score); `inputs` are those of a batch."""
    ids = {name: vocab.to_indices(f"<{name}>") for name in ("bos", "eos", "pad", "unk")}
    banned = (ids["bos"], ids["pad"], *([ids["unk"]] if config.generation.ban_unk else []))
    written = config.reports.max_length - 1  # the begin token is not written
    named = {name: paddle.to_tensor(array) for name, array in inputs.items()}
    beams = beam_search(model, named, ids["bos"], ids["eos"], config.generation, written, banned)
    return [[(decode(vocab, words), score) for words, score in beam] for beam in beams]


def predict(
    model: Decoder, vocab: Vocab, studies: Studies, config: Config, batch_size: int = 64, out: str | Path | None = None
) -> pd.DataFrame:
    """predictions.csv of a split, as a table in the order of `studies`; written to `out` when given.

    If interrupted, writing `out` resumes at the last finished batch. It is not repeated while model, studies and
    settings are the same.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    model.eval()
    settings = {"max_length": config.reports.max_length, **asdict(config.generation)}
    arrays = [array for arrays in studies.inputs.values() for array in arrays]
    own = [*arrays, studies.tokens, *studies.table.study_id, *studies.table.report]
    inputs = digest(settings, batch_size, vocab.to_json(), *tensors(model).values(), *own)
    if out and cache.is_current(out, inputs):
        return read_table(out, COLUMNS, FIX).astype({"score": float, "nll": float, "words": int})

    in_parts = cache.halve_batch_on_oom(lambda part, rows: _batch(model, vocab, studies, rows[part], config))

    def rest(done: int) -> Iterator[cache.Part]:
        starts = range(done * batch_size, len(studies), batch_size)
        for start in tqdm(starts, desc="generate", unit="batch"):
            rows = np.arange(start, min(start + batch_size, len(studies)))
            yield _joined(in_parts(len(rows), rows))

    with lock(out) if out else nullcontext():
        table = pd.DataFrame(_joined(list(cache.resumable(out, inputs, rest) if out else rest(0))))
        table.insert(0, "study_id", studies.table.study_id)
        table.insert(1, "reference", studies.table.report)
        if out:
            write_table(out, table)
            cache.mark_done(out, inputs)
            cache.clear(out)
    return table


def _batch(model: Decoder, vocab: Vocab, studies: Studies, rows: np.ndarray, config: Config) -> cache.Part:
    """Prediction, score, nll and words of the studies at `rows`."""
    inputs, tokens = studies.batch(rows)
    nll = reference_nll(model, Batch(inputs, tokens))
    mask = tokens[:, 1:] != studies.pad
    texts, scores = zip(*(beam[0] for beam in search(model, vocab, inputs, config)), strict=True)
    nll = (nll * mask).sum(1).astype("float64")
    return {"prediction": np.array(texts, str), "score": np.array(scores), "nll": nll, "words": mask.sum(1)}


@paddle.no_grad()
def reference_nll(model: Decoder, batch: Batch) -> np.ndarray:
    """-log p of each word of the references, by teacher forcing: [B, T - 1], padding included."""
    inputs = {name: paddle.to_tensor(array) for name, array in batch.inputs.items()}
    tokens = paddle.to_tensor(batch.tokens)
    return token_nll(model(inputs, tokens[:, :-1]), tokens[:, 1:]).numpy()


def _joined(parts: list[cache.Part]) -> cache.Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS[2:]}


def caption(run_dir: str | Path, paths: list[str | Path], weights: str | Path | None = None) -> list[tuple[str, float]]:
    """The n-best reports of a run for one study given as image files (its views), best first.

    `weights` is the encoder's file where it is not the usual one. MedcapError when the encoder is not the one that the
    run was trained on, or an image cannot be read.
    """
    run = runs.load(run_dir)
    reader = encoder.load(run.features["encoder"], weights, features.needed(run.config))
    feature_file.check(feature_file.describe(reader), run.features, f"encoder {reader.name}")
    arrays = features.of_paths(paths, reader)  # [K, ...] by name
    return search(run.model, run.vocab, {name: arrays[name][None] for name in run.model.reads}, run.config)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the FINDINGS of one study. Not for clinical use.")
    parser.add_argument("run_dir", help="a trained run, for example work/runs/lstm")
    parser.add_argument("images", nargs="+", help="the views of the study: PNG, JPEG, DICOM")
    parser.add_argument("--weights", help="the encoder's weights where they are not the usual file")
    arguments = parser.parse_args()
    with cli_errors(), warnings.catch_warnings():
        ignore_harmless()
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        for text, score in caption(arguments.run_dir, arguments.images, arguments.weights):
            print(f"{score:8.2f}  {text}")


if __name__ == "__main__":
    main()
