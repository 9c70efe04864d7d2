"""A trained run writes its reports: predictions.csv for a split, or a caption for your own images.

runs/<run>/predictions.csv:

    study_id, reference    the cleaned report of the radiologist
    prediction, score      the best report of the beam, or the one drawn, and its score (beam_search defines it)
    nll, words             -log p of the reference, and the number of words it is over (perplexity is made of them)
    image_gain             what the image adds to log p of the prediction's words, its end not among them, and
    predicted_words        their number (image reliance is made of them): see models.reliance
    typicality             the percentage of train studies that are at most as strange: see vision.typicality

    python -m medcap_paddle.generate RUN_DIR IMAGE [IMAGE ...] [--anatomy]    a report for the views of one study, and
                                                                              the size of its heart: see vision.measure
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import paddle

from . import encoder, feature_file, features, runs
from .beam_search import beam_search
from .config import Config
from .dataset import Batch, Studies
from .metrics.consensus import consensus
from .models import reliance, rules
from .models.decoder import Decoder
from .models.sampling import sample
from .models.train_inputs import Known
from .runtime import cache
from .runtime.files import cli_errors, digest, lock, read_table, write_table
from .runtime.loop import tensors
from .runtime.quiet import ignore_harmless
from .vision import measure, typicality
from .vocab import decode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

COLUMNS = {"study_id": str, "reference": str, "prediction": str, "score": float, "nll": float, "words": int}
TYPICALITY = {"typicality": float}
FIX = "run 05_generate.ipynb"


def search(
    model: Decoder, vocab: Vocab, inputs: dict[str, np.ndarray], config: Config, names: Sequence[str] = ()
) -> list[list[tuple[str, float]]]:
    """The n-best reports of each study, best first, as (text, score); `inputs` are those of a batch.

    With a `temperature`, one report of each is drawn, with random numbers of its own by its name in `names` (of which
    there must be one a study). Without names all studies are drawn with the same numbers. With a `consensus`, several
    are, with the same numbers for all studies, so that the report follows from the images alone; the score is that of
    `metrics.consensus`. MedcapError as `rules.check` says.
    """
    rules.check(config.generation)
    ids = {name: vocab.to_indices(f"<{name}>") for name in ("bos", "eos", "pad", "unk")}
    banned = (ids["bos"], ids["pad"], *([ids["unk"]] if config.generation.ban_unk else []))
    written = config.reports.max_length - 1  # the begin token is not written
    named, count = {name: paddle.to_tensor(array) for name, array in inputs.items()}, config.generation.consensus
    names = names or [""] * len(next(iter(inputs.values())))
    if count:
        names = [str(k) for _ in names for k in range(count)]
        named = {name: array.repeat_interleave(count, 0) for name, array in named.items()}
    common = (model, named, ids["bos"], ids["eos"], config.generation, written, banned)
    beams = sample(*common, names) if config.generation.temperature else beam_search(*common)
    texts = [[(decode(vocab, words), score) for words, score in beam] for beam in beams]
    if not count:
        return texts
    studies = (texts[k : k + count] for k in range(0, len(texts), count))
    return [consensus([text for beam in study for text, _ in beam]) for study in studies]


def predict(
    model: Decoder,
    vocab: Vocab,
    studies: Studies,
    config: Config,
    batch_size: int = 64,
    out: str | Path | None = None,
    known: Known | None = None,
) -> pd.DataFrame:
    """predictions.csv of a split, as a table in the order of `studies`; written to `out` when given.

    `known` is `runs.Run.known`; without it the last three columns are left out. If interrupted, writing `out` resumes
    at the last finished batch. It is not repeated while model, studies, `known` and settings are the same.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    model.eval()
    settings = {"max_length": config.reports.max_length, **asdict(config.generation)}
    arrays = [array for arrays in studies.inputs.values() for array in arrays]
    own = [*arrays, studies.tokens, *studies.table.study_id, *studies.table.report]
    own += known.parts() if known else []
    columns = COLUMNS | (reliance.SUMS | TYPICALITY if known else {})
    inputs = digest(settings, batch_size, vocab.to_json(), *tensors(model).values(), *own)
    if out and cache.is_current(out, inputs):
        return read_table(out, list(columns), FIX).astype(columns)

    in_parts = cache.halve_batch_on_oom(lambda part, rows: _batch(model, vocab, studies, rows[part], config, known))

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


def _batch(
    model: Decoder, vocab: Vocab, studies: Studies, rows: np.ndarray, config: Config, known: Known | None
) -> cache.Part:
    """The columns of the studies at `rows`, but for their ids and references."""
    inputs, tokens = studies.batch(rows)
    nll = reliance.forced_nll(model, Batch(inputs, tokens))
    mask = tokens[:, 1:] != studies.pad
    names = [*studies.table.study_id.iloc[rows]]
    texts, scores = zip(*(beam[0] for beam in search(model, vocab, inputs, config, names)), strict=True)
    nll = (nll * mask).sum(1)
    written = {"prediction": np.array(texts, str), "score": np.array(scores), "nll": nll, "words": mask.sum(1)}
    if not known:
        return written
    typical = known.percentiles([studies.inputs[feature_file.POOLED][row] for row in rows])
    return written | reliance.sums(model, vocab, inputs, known.mean, texts) | {"typicality": typical}


def _joined(parts: list[cache.Part]) -> cache.Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Caption(NamedTuple):
    """What a run says of one study."""

    reports: list[tuple[str, float]]  # the n-best, as (text, score), best first
    typicality: float  # percentile among the train studies, NaN where it is unknown: see vision.typicality
    warnings: list[str]  # why not to trust the reports


def caption(run_dir: str | Path, paths: list[str | Path], weights: str | Path | None = None) -> Caption:
    """The reports of a run for one study given as image files (its views).

    `weights` is the encoder's file where it is not the usual one. MedcapError when the encoder is not the one that the
    run was trained on, or an image cannot be read.
    """
    run = runs.load(run_dir)
    reader = encoder.load(run.features["encoder"], weights, feature_file.needed(run.config))
    feature_file.check(feature_file.describe(reader), run.features, f"encoder {reader.name}")
    arrays = features.of_paths(paths, reader)  # [K, ...] by name
    if run.memory:
        arrays |= {name: one for name, [one] in run.memory.of_others([arrays[feature_file.POOLED]]).items()}
    inputs = {name: arrays[name][None] for name in run.model.reads}
    [percentile] = run.known.percentiles([arrays[feature_file.POOLED]])
    doubts = [typicality.not_drawn(paths) if run.features.get("drawn") else "", typicality.warning(percentile)]
    return Caption(search(run.model, run.vocab, inputs, run.config)[0], percentile, [*filter(None, doubts)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the FINDINGS of one study. Not for clinical use.")
    parser.add_argument("run_dir", help="a trained run, for example work/runs/lstm")
    parser.add_argument("images", nargs="+", help="the views of the study: PNG, JPEG, DICOM")
    parser.add_argument("--weights", help="the encoder's weights where they are not the usual file")
    parser.add_argument("--anatomy", action="store_true", help="measure the heart too; pictures in RUN_DIR/anatomy")
    arguments = parser.parse_args()
    with cli_errors(), warnings.catch_warnings():
        ignore_harmless()
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        found = caption(arguments.run_dir, arguments.images, arguments.weights)
        for text, score in found.reports:
            print(f"{score:8.2f}  {text}")
        if np.isfinite(found.typicality):
            print(f"more unusual than {found.typicality:.1f}% of the train studies")
        if arguments.anatomy:
            print(*measure.beside(arguments.images, found.reports[0][0], f"{arguments.run_dir}/anatomy"), sep="\n")
        for doubt in found.warnings:
            print(f"warning: {doubt}", file=sys.stderr)


if __name__ == "__main__":
    main()
