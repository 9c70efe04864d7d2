"""The metrics of an evaluation: `METRICS`, a table from a name to what is kept of each study and how sums combine.

Everything else comes for free: value, 95% interval, strata, p, mean over seeds, and the column of the table. So it does
for a metric from elsewhere:

    def words(pairs):
        return per_study([len(text.split()) for text in pairs.predictions])

    METRICS["words"] = Metric(words, ratio, heading="words")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..clinical import labels
from ..runtime.files import MedcapError
from ..text import clean
from . import diversity, meteor, ngrams, relevance
from .bootstrap import Combine, Spread, spreads
from .order import top_share, weighted_median
from .pairs import Pairs

Counts = Callable[[Pairs], "np.ndarray | None"]


@dataclass(frozen=True)
class Metric:
    """An entry of `METRICS`.

    counts(pairs) -> [n, c]     What is kept of each study; None where the run lacks a column for it. The message of a
                                MedcapError becomes a note. Metrics with the same function share its result.
    combine([R, c]) -> [R]      The metric of R samples of studies, from the counts summed over each; NaN where it is
                                undefined: a dash in the table, null in metrics.json, with the note `undefined`.
    """

    counts: Counts
    combine: Combine
    heading: str = ""  # of its column in the table; "": no column
    digits: int = 3  # 0: a whole number
    interval: bool = True  # False: `counts` gives [1, c] for all studies together, and nothing is resampled
    protocol: str = ""  # where it prepares the texts itself: in which way
    ordered: bool = False  # `combine` takes what was kept and the weights of the studies [R, n] in place of their sums
    stacked: bool = False  # `counts` is slow to start: it takes the stacked studies of all runs at once
    missing: Callable[[], str] = str  # why this machine cannot compute it; "" where it can
    undefined: str = "A metric is undefined for these studies."  # the note where it is NaN


def measure(metrics: dict[str, Metric], runs: Sequence[Pairs]) -> tuple[list[dict[Counts, np.ndarray]], list[str]]:
    """What is kept of each run, by the function that counted it; and notes on what could not be counted."""
    kept, notes = [{} for _ in runs], []
    for counts, metric in {metric.counts: metric for metric in metrics.values()}.items():
        try:
            if reason := metric.missing():
                raise MedcapError(reason)
            counted = np.split(counts(Pairs.stack(runs)), len(runs)) if metric.stacked else map(counts, runs)
            for own, pairs, array in zip(kept, runs, counted, strict=True):
                rows = len(pairs.references) if metric.interval else 1
                if array is not None and (array.ndim != 2 or len(array) != rows):
                    raise ValueError(f"{counts} gave an array of shape {array.shape}: expected ({rows}, c)")
                if array is not None:
                    own[counts] = array
        except MedcapError as error:
            notes.append(str(error))
    return kept, notes


def resampled(
    metrics: dict[str, Metric], kept: dict[Counts, np.ndarray], number: int, rows: np.ndarray | slice = slice(None)
) -> dict[str, Spread]:
    """The metrics that were measured, over `number` resamples of the studies at `rows`."""
    summed = {name: metric for name, metric in metrics.items() if metric.interval and metric.counts in kept}
    arrays = {metric.counts: kept[metric.counts][rows] for metric in summed.values()}
    counts = {name: arrays[metric.counts] for name, metric in summed.items()}
    ordered = {name for name, metric in summed.items() if metric.ordered}
    return spreads(counts, {name: metric.combine for name, metric in summed.items()}, number, ordered)


def unresampled(metrics: dict[str, Metric], kept: dict[Counts, np.ndarray]) -> dict[str, Spread]:
    """The metrics without an interval."""
    whole = {name: metric for name, metric in metrics.items() if not metric.interval and metric.counts in kept}
    values = {name: float(metric.combine(kept[metric.counts])[0]) for name, metric in whole.items()}
    whole_number = {name for name, value in values.items() if not metrics[name].digits and np.isfinite(value)}
    return {name: Spread(round(value) if name in whole_number else value) for name, value in values.items()}


def per_study(scores: Sequence[float]) -> np.ndarray:
    """Scores beside ones [n, 2]: the `ratio` of their sums is the mean over studies."""
    return np.stack([np.asarray(scores, float), np.ones(len(scores))], 1)


def ratio(summed: np.ndarray) -> np.ndarray:
    """NaN where it is over nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return summed[..., 0] / summed[..., 1]


# The house's own ------------------------------------------------------------------------------------------------------


def _bleu_counts(pairs: Pairs) -> np.ndarray:
    return ngrams.bleu_counts(pairs.references, pairs.predictions)


def _bleu(n: int) -> Combine:
    return lambda summed: ngrams.bleu(summed)[..., n - 1]


def _meteor_counts(pairs: Pairs) -> np.ndarray:
    return meteor.counts(pairs.references, pairs.predictions)


def _rouge_l(pairs: Pairs) -> np.ndarray:
    """ROUGE-L (Lin, 2004) as pycocoevalcap computes it: an F-measure of the longest common subsequence, beta 1.2."""
    from pycocoevalcap.rouge.rouge import Rouge

    texts = zip(pairs.references, pairs.predictions, strict=True)
    return per_study([Rouge().calc_score([prediction], [reference]) for reference, prediction in texts])


def _cider(pairs: Pairs) -> np.ndarray:
    frequency = ngrams.document_frequency(pairs.references)
    scores = ngrams.cider(pairs.references, pairs.predictions, frequency)
    return per_study(scores if frequency.differ else np.full(len(scores), np.nan))


def _sums(*columns: str) -> Counts:
    """Columns of predictions.csv as they are; None for a table without them."""

    def counts(pairs: Pairs) -> np.ndarray | None:
        found = set(columns) <= set(pairs.table.columns)
        return pairs.table[[*columns]].astype(float).to_numpy() if found else None

    return counts


def _cider_novel(pairs: Pairs) -> np.ndarray | None:
    """CIDEr with the document frequencies of all references; other studies than the novel ones count 0 times."""
    return None if pairs.novel is None else np.where(pairs.novel[:, None], _cider(pairs), 0)


def _perplexity(summed: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(ratio(summed))


def observations(pairs: Pairs) -> np.ndarray:
    """True positives, false positives, false negatives of each study in each of the 14 classes [n, 3 x 14]."""
    counted = np.stack(labels.counts(pairs.labels, labels.label(pairs.table.prediction)), 1)
    return counted.reshape(len(counted), -1).astype(float)


def by_class(summed: np.ndarray) -> np.ndarray:
    """`observations`, summed: true positives, false positives, false negatives [3, ..., 14]."""
    return np.moveaxis(summed.reshape(*summed.shape[:-1], 3, len(labels.OBSERVATIONS)), -2, 0)


def _relevance(score: relevance.Score) -> Combine:
    return lambda summed: score(*by_class(summed))


def _clinical(name: str) -> Combine:
    return lambda summed: labels.averages(*by_class(summed)[..., :-1])[name]  # NaN without positives


def _no_finding_f1(summed: np.ndarray) -> np.ndarray:
    return labels.scores(*by_class(summed)[..., -1])["f1"]


def _sentence_bleu(pairs: Pairs) -> np.ndarray:
    """Unsmoothed BLEU-4 of each study by NLTK, as the AI Studio notebook had it: 0 wherever no 4-gram matches."""
    from nltk.translate.bleu_score import sentence_bleu

    sides = ([clean(text, "original").split() for text in pairs.table[name]] for name in ("reference", "prediction"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every such 0
        return per_study([sentence_bleu([reference], prediction) for reference, prediction in zip(*sides, strict=True)])


def _diversity(pairs: Pairs) -> np.ndarray:
    return diversity.counts(pairs.references, pairs.predictions)


def _column(i: int) -> Combine:
    return lambda summed: summed[..., i]


# The first that is defined orders the rows of a table, both show their intervals, the last has a table of strata.
HEADLINES = ("cider_novel", "cider")
_HEADINGS = {"clinical_macro_f1": "clinical F1", "different_reports": "different"}
_NO_WORD = "CIDEr is undefined (-): it weighs words by how few references have them, and all references are the same."
_NO_NOVEL = (
    "CIDEr on the novel reports is undefined (-): every reference is verbatim in train, or CIDEr itself is undefined."
)
_NO_HIT = "The share of the best studies in CIDEr is undefined (-): no prediction shares a word with its reference."
_NO_POSITIVE = (
    "A clinical figure is undefined (-) where it divides by no finding: F1 and recall where no reference has one, "
    "precision where no prediction has one."
)
_AVERAGES = [f"{average}_{score}" for average in ("macro", "micro") for score in ("precision", "recall", "f1")]

METRICS: dict[str, Metric] = {
    **{f"bleu{n}": Metric(_bleu_counts, _bleu(n), f"BLEU-{n}") for n in range(1, 5)},
    "meteor": Metric(_meteor_counts, meteor.score, "METEOR", stacked=True, missing=meteor.missing),
    "rouge_l": Metric(_rouge_l, ratio, "ROUGE-L"),
    "cider_novel": Metric(_cider_novel, ratio, "CIDEr novel", undefined=_NO_NOVEL),
    "cider": Metric(_cider, ratio, "CIDEr", undefined=_NO_WORD),
    "cider_median": Metric(_cider, weighted_median, "CIDEr median", ordered=True, undefined=_NO_WORD),
    "cider_top5": Metric(_cider, top_share, "CIDEr top 5%", ordered=True, undefined=_NO_HIT),
    "perplexity": Metric(
        _sums("nll", "words"), _perplexity, "perplexity", undefined="Perplexity is too large to be written."
    ),
    "image_reliance": Metric(
        _sums("image_gain", "predicted_words"), ratio, "image reliance", undefined="No prediction has a word."
    ),
    **{f"clinical_{name}": Metric(observations, _clinical(name), undefined=_NO_POSITIVE) for name in _AVERAGES},
    "no_finding_f1": Metric(
        observations, _no_finding_f1, undefined="No study is without findings: its F1 is undefined."
    ),
    "clinical_relevance": Metric(observations, _relevance(relevance.precision), undefined=_NO_POSITIVE),
    "clinical_relevance_f1": Metric(observations, _relevance(relevance.f1), undefined=_NO_POSITIVE),
    **{
        name: Metric(_diversity, _column(i), digits=digits, interval=False, undefined=diversity.UNDEFINED)
        for i, (name, digits) in enumerate(diversity.DIGITS.items())
    },
    "sentence_bleu": Metric(_sentence_bleu, ratio, "sentence BLEU", protocol="original"),
}
METRICS |= {name: replace(METRICS[name], heading=heading) for name, heading in _HEADINGS.items()}
BUILT_IN = dict(METRICS)
