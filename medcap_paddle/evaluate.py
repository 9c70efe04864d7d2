"""Figures from predictions: any predictions.csv, ours or made elsewhere.

Reads runs/<run>/predictions.csv (`study_id, reference, prediction`; ours also `nll, words`) and writes
runs/<run>/metrics.json: {"split", "protocol", "studies", "figures": {name: {"value", "low", "high"}}}.

Every figure is the sum or mean of numbers kept per study (n-gram counts, ROUGE-L, CIDEr, nll), so a bootstrap
resample is a weighting of studies and costs one matrix product.

Protocols (what is done to references and predictions before they are compared):

    r2gen     cleaned as R2Gen does, cut to 59 words; words of the reference outside the vocabulary become <unk>
    full      cleaned the same way, neither cut nor <unk>
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import MedcapError, read_table, write_json
from .reports import clean

if TYPE_CHECKING:
    import pandas as pd

PROTOCOLS = ("r2gen", "full")
MAX_WORDS = 59  # R2Gen's 60 ids less the begin token


def read_predictions(path: str | Path) -> pd.DataFrame:
    """A table with a row per study; MedcapError on missing columns, no rows, repeated studies or empty references."""
    remedy = "write columns study_id, reference, prediction with a row per study (05_generate.ipynb does)"
    table = read_table(path, ["study_id", "reference", "prediction"], remedy)
    if table.empty:
        raise MedcapError(f"{path} has no predictions: {remedy}")
    repeated = table.study_id[table.study_id.duplicated()]
    if len(repeated):
        raise MedcapError(f"{path} has {repeated.iloc[0]} more than once: {remedy}")
    return table


def prepare(table: pd.DataFrame, protocol: str = "r2gen", vocab: Container[str] | None = None) -> tuple[list, list]:
    """References and predictions as the protocol compares them; without `vocab` no word becomes <unk>."""
    if protocol not in PROTOCOLS:
        raise MedcapError(f"protocol is {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    references, predictions = ([clean(text).split() for text in table[name]] for name in ("reference", "prediction"))
    empty = [study for study, words in zip(table.study_id, references, strict=True) if not words]
    if empty:
        raise MedcapError(f"the reference of {empty[0]} is empty after cleaning: leave that study out")
    if protocol == "r2gen":
        references, predictions = ([words[:MAX_WORDS] for words in texts] for texts in (references, predictions))
        if vocab is not None:
            references = [[word if word in vocab else "<unk>" for word in words] for words in references]
    return [" ".join(words) for words in references], [" ".join(words) for words in predictions]


def statistics(references: list[str], predictions: list[str]) -> dict[str, np.ndarray]:
    """Per study: `bleu` [n, 10] (correct 1-4, guessed 1-4, both lengths), `rouge_l`, `cider`, `sentence_bleu` [n].

    pycocoevalcap's own scorers without its PTB tokenizer, since the text is tokenized already. CIDEr takes document
    frequencies from `references`.
    """
    from nltk.translate.bleu_score import sentence_bleu
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    pairs = list(zip(references, predictions, strict=True))
    bleu = []
    for reference, prediction in pairs:
        counts = cook_test(prediction, cook_refs([reference]), eff="closest")
        bleu.append([*counts["correct"], *counts["guess"], counts["testlen"], counts["reflen"]])
    by_study = [dict(enumerate([text] for text in texts)) for texts in (references, predictions)]
    return {
        "bleu": np.array(bleu, float),
        "rouge_l": Rouge().compute_score(*by_study)[1],
        "cider": np.array(Cider().compute_score(*by_study)[1]),
        "sentence_bleu": np.array([_sentence_bleu(sentence_bleu, *pair) for pair in pairs]),
    }


def _sentence_bleu(nltk_bleu, reference: str, prediction: str) -> float:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk warns at every n-gram order without a match; the 0 is what we report
        return nltk_bleu([reference.split()], prediction.split()) if prediction else 0.0


def bleu(counts: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1..4 [..., 4] from summed counts [..., 10] (Papineni et al. 2002), with pycocoevalcap's constants."""
    correct, guess, length, reference = counts[..., :4], counts[..., 4:8], counts[..., 8], counts[..., 9]
    precision = (correct + 1e-15) / (guess + 1e-9)
    mean = np.exp(np.cumsum(np.log(precision), -1) / np.arange(1, 5))
    ratio = (length + 1e-15) / (reference + 1e-9)
    return mean * np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)[..., None]


def figures(stats: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each figure for each row of `weights` [R, n], how often a study counts: one row of ones is the corpus."""
    total = weights.sum(1)
    out = dict(zip(("bleu1", "bleu2", "bleu3", "bleu4"), bleu(weights @ stats["bleu"]).T, strict=True))
    for name in ("rouge_l", "cider", "sentence_bleu"):
        out[name] = weights @ stats[name] / total
    if "nll" in stats:
        out["perplexity"] = np.exp(weights @ stats["nll"] / (weights @ stats["words"]))
    return out


def evaluate(
    table: pd.DataFrame, protocol: str = "r2gen", vocab: Container[str] | None = None, resamples: int = 2000
) -> dict[str, dict[str, float]]:
    """{"cider": {"value", "low", "high"}, ...}: 95% intervals by bootstrap over studies (percentile method)."""
    references, predictions = prepare(table, protocol, vocab)
    stats = statistics(references, predictions)
    if {"nll", "words"} <= set(table.columns):
        stats |= {name: table[name].astype(float).to_numpy() for name in ("nll", "words")}
    n = len(table)
    value = figures(stats, np.ones([1, n]))
    rng = np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype("float32")
    spread = figures(stats, weights)
    out = {
        name: {
            "value": float(value[name][0]),
            "low": float(np.percentile(spread[name], 2.5)),
            "high": float(np.percentile(spread[name], 97.5)),
        }
        for name in value
    }
    different = len(set(predictions))
    return out | {"different_reports": {"value": different, "low": different, "high": different}}


def evaluate_run(run_dir: str | Path, split: str, vocab: Container[str] | None, protocol: str = "r2gen") -> dict:
    """Evaluate runs/<run>/predictions.csv and write metrics.json beside it."""
    run_dir = Path(run_dir)
    table = read_predictions(run_dir / "predictions.csv")
    metrics = {"split": split, "protocol": protocol, "studies": len(table), "figures": evaluate(table, protocol, vocab)}
    write_json(run_dir / "metrics.json", metrics)
    return metrics


HEADINGS = {
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "perplexity": "perplexity",
    "sentence_bleu": "sentence BLEU",
    "different_reports": "different reports",
}


def compare(metrics: dict[str, dict]) -> pd.DataFrame:
    """One row per run, best CIDEr first, from {run: metrics.json}; a run without a figure has a dash there."""
    import pandas as pd

    rows = {}
    ordered = sorted(metrics, key=lambda run: -metrics[run]["figures"]["cider"]["value"])
    for run in ordered:
        values = {name: figure["value"] for name, figure in metrics[run]["figures"].items()}
        rows[run] = {
            heading: "-"
            if name not in values
            else f"{values[name]:.0f}"
            if name == "different_reports"
            else f"{values[name]:.3f}"
            for name, heading in HEADINGS.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def as_text(table: pd.DataFrame) -> str:
    return table.to_string()


def provenance(collection: dict, features: dict, split: str) -> str:
    """What a table was made of, from collection.json and the attributes of features.h5: print it with every table."""
    drawn = collection["images"] == "phantom"
    return "; ".join(
        [
            f"{collection['studies'][split]:,} {split} studies (split {collection['split']})",
            f"{collection['reports']} reports",
            "images DRAWN from findings, not real: no figure compares with published ones" if drawn else "real images",
            f"features {features['encoder']} ({features['source']} {features['weights']}, {features['precision']})",
        ]
    )
