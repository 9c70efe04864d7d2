"""A trained run writes its reports: predictions.csv for a split, or a caption for your own images.

runs/<run>/predictions.csv:

    study_id, reference    the cleaned report of the radiologist
    prediction, score      the best report of the beam and its score (beam_search says what it is)
    nll, words             -log p of the reference, and the number of words it is over (perplexity is made of them)

    python -m medcap_paddle.generate RUN_DIR IMAGE [IMAGE ...]    a report for the views of one study
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import encoder
from . import features as feature_file
from .beam_search import beam_search
from .config import Config
from .dataset import Studies, pad_features
from .files import alone, digest, plain_ending, read_table, write_table
from .model import token_nll
from .resume import Part, finished, forget, parts, sparing, unchanged
from .train import WRITING, load_run, tensors
from .vocab import decode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

COLUMNS = ["study_id", "reference", "prediction", "score", "nll", "words"]
REMEDY = "run 05_generate.ipynb"


def search(model, vocab: Vocab, features: np.ndarray, config: Config) -> list[list[tuple[str, float]]]:
    """The n-best reports of each study, best first, as (text, score); features [B, K, D]."""
    ids = {name: vocab.to_indices(f"<{name}>") for name in ("bos", "eos", "pad", "unk")}
    beams = beam_search(
        model,
        paddle.to_tensor(features),
        ids["bos"],
        ids["eos"],
        beam_size=config.beam_size,
        max_length=config.max_length - 1,  # the begin token is not written
        min_length=config.min_length,
        length_penalty=config.length_penalty,
        no_repeat_ngram=config.no_repeat_ngram,
        banned=(ids["bos"], ids["pad"], *([ids["unk"]] if config.ban_unk else [])),
    )
    return [[(decode(vocab, words), score) for words, score in beam] for beam in beams]


def predict(
    model, vocab: Vocab, studies: Studies, config: Config, batch_size: int = 64, out: str | Path | None = None
) -> pd.DataFrame:
    """predictions.csv of a split, as a table in the order of `studies`; written to `out` when given.

    Stopped, the writing of `out` goes on from the last finished batch; finished, it does nothing while model, studies
    and settings are the same.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    model.eval()
    settings = {name: getattr(config, name) for name in ("max_length", *WRITING)}
    own = [*studies.features, studies.tokens, *studies.table.study_id, *studies.table.report]
    inputs = digest(settings, batch_size, vocab.to_json(), *tensors(model).values(), *own)
    if out and unchanged(out, inputs):
        tqdm.write(f"{out} is up to date: nothing to do")
        return read_table(out, COLUMNS, REMEDY).astype({"score": float, "nll": float, "words": int})

    careful = sparing(lambda part, chosen: _batch(model, vocab, studies, chosen[part], config))

    def rest(done: int) -> Iterator[Part]:
        starts = range(done * batch_size, len(studies), batch_size)
        for start in tqdm(starts, desc="generate", unit="batch"):
            chosen = np.arange(start, min(start + batch_size, len(studies)))
            yield _joined(careful(len(chosen), chosen))

    with alone(out) if out else nullcontext():
        table = pd.DataFrame(_joined(list(parts(out, inputs, rest) if out else rest(0))))
        table.insert(0, "study_id", studies.table.study_id)
        table.insert(1, "reference", studies.table.report)
        if out:
            write_table(out, table)
            finished(out, inputs)
            forget(out)
    return table


def _batch(model, vocab: Vocab, studies: Studies, chosen: np.ndarray, config: Config) -> Part:
    """Prediction, score, nll and words of the studies at `chosen`."""
    features, tokens = studies.batch(chosen)
    with paddle.no_grad():
        targets = paddle.to_tensor(tokens[:, 1:])
        nll = token_nll(model(paddle.to_tensor(features), paddle.to_tensor(tokens[:, :-1])), targets).numpy()
    mask = tokens[:, 1:] != studies.pad
    texts, scores = zip(*(beam[0] for beam in search(model, vocab, features, config)), strict=True)
    nll = (nll * mask).sum(1).astype("float64")
    return {"prediction": np.array(texts, str), "score": np.array(scores), "nll": nll, "words": mask.sum(1)}


def _joined(parts: list[Part]) -> Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS[2:]}


def caption(run_dir: str | Path, paths: list[str | Path], weights: str | Path | None = None) -> list[tuple[str, float]]:
    """The n-best reports of a run for one study given as image files (its views), best first.

    `weights` is the encoder's file where it is not the usual one. MedcapError when the encoder is not the one that the
    run was trained on, or an image cannot be read.
    """
    model, config, vocab, attributes = load_run(run_dir)
    eyes = encoder.load(attributes["encoder"], weights)
    feature_file.check(feature_file.describe(eyes), attributes, f"encoder {eyes.name}")
    return search(model, vocab, pad_features([feature_file.of_paths(paths, eyes)]), config)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the FINDINGS of one study. Not for clinical use.")
    parser.add_argument("run_dir", help="a trained run, for example work/runs/lstm")
    parser.add_argument("images", nargs="+", help="the views of the study, PNG or JPEG")
    parser.add_argument("--weights", help="the encoder's weights where they are not the usual file")
    arguments = parser.parse_args()
    with plain_ending():
        for text, score in caption(arguments.run_dir, arguments.images, arguments.weights):
            print(f"{score:8.2f}  {text}")


if __name__ == "__main__":
    main()
