"""Runs to compare with, so that a number can be judged: what does a model gain by seeing?

Texts that need no model (a constant, a random or the nearest train report), and studies whose images say nothing (those
of another study, or the mean of all) for a model to be run on. 06 writes each as an ordinary run directory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from .dataset import Studies
from .evaluate import SIGMA, bleu, ngrams


class ConstantScorer:
    """BLEU-4 and CIDEr of one text against every reference at once.

    pycocoevalcap's definitions, with the references counted into one sparse matrix beforehand: the search below
    scores hundreds of texts, which takes the library minutes and this seconds.
    """

    def __init__(self, references: list[str]):
        from sklearn.feature_extraction import DictVectorizer

        self.vectorizer = DictVectorizer(dtype=np.float64)
        self.counts = self.vectorizer.fit_transform([_keys(text) for text in references]).tocsc()  # [N, G]
        self.column = self.vectorizer.vocabulary_
        self.order = np.array([key.count(" ") for key in self.vectorizer.feature_names_])  # [G], 0 for unigrams
        frequency = np.diff(self.counts.indptr)
        self.most = np.log(len(references))
        self.idf = self.most - np.log(np.maximum(frequency, 1))
        weighted = self.counts.multiply(self.idf).tocsr()
        squared = [np.asarray(weighted[:, self.order == n].power(2).sum(1)).ravel() for n in range(4)]
        self.norms = np.sqrt(np.stack(squared, -1))  # [N, 4]
        self.lengths = np.array([len(text.split()) for text in references])

    def overlap(self, text: str):
        """n-grams of `text` found in the references: counts [G'], orders [G'], idf [G'], reference counts [N, G']."""
        counts = _keys(text)
        known = [key for key in counts if key in self.column]
        columns = [self.column[key] for key in known]
        own = np.array([counts[key] for key in known], float)
        return own, self.order[columns], self.idf[columns], self.counts[:, columns].toarray()

    def bleu4(self, text: str) -> float:
        own, order, _, reference = self.overlap(text)
        matched = np.minimum(own, reference).sum(0)
        length, n = len(text.split()), len(self.lengths)
        correct = [matched[order == k].sum() for k in range(4)]
        guess = [n * max(0, length - k) for k in range(4)]
        return float(bleu(np.array([*correct, *guess, n * length, self.lengths.sum()], float))[3])

    def cider(self, text: str) -> float:
        own, order, idf, reference = self.overlap(text)
        unknown = Counter()  # n-grams that no reference has: they only lengthen the vector
        for key, count in _keys(text).items():
            if key not in self.column:
                unknown[key.count(" ")] += (count * self.most) ** 2
        similarity = np.zeros_like(self.norms)
        for n in range(4):
            at = order == n
            weight, theirs = own[at] * idf[at], reference[:, at] * idf[at]
            norm = np.sqrt((weight**2).sum() + unknown[n]) * self.norms[:, n]
            product = (np.minimum(weight, theirs) * theirs).sum(1)
            similarity[:, n] = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
        # the library measures a text by its bigrams
        difference = np.maximum(len(text.split()) - 1, 0) - np.maximum(self.lengths - 1, 0)
        return float(10 * (similarity.mean(1) * np.exp(-(difference**2) / (2 * SIGMA**2))).mean())


def _keys(text: str) -> dict[str, int]:
    return {" ".join(gram): count for gram, count in ngrams(text).items()}  # DictVectorizer wants strings


def best_constant(train: list[str], val: list[str], metric: str = "cider", candidates: int = 200) -> str:
    """The one text that scores best on `val` when written for every study, by "cider" or "bleu4".

    Tried: the most frequent train reports, and a report grown from the most frequent train sentences, at every step
    by the sentence that helps most, wherever in the report it helps most.
    """
    score = getattr(ConstantScorer(val), metric)
    reports = [text for text, _ in Counter(train).most_common(candidates)]
    sentences = Counter(part.strip() + " ." for text in train for part in text.split(" .") if part.strip())
    sentences = [text for text, _ in sentences.most_common(candidates // 4)]
    best, text = max((score(text), text) for text in reports)
    grown: list[str] = []
    grown_score = 0.0
    while True:
        places = [grown[:i] + [s] + grown[i:] for s in sentences if s not in grown for i in range(len(grown) + 1)]
        top, parts = max(((score(" ".join(p)), p) for p in places), default=(0.0, grown))
        if top <= grown_score:
            break
        grown, grown_score = parts, top
    return " ".join(grown) if grown_score > best else text


def most_frequent(train: list[str]) -> str:
    return Counter(train).most_common(1)[0][0]


def random_reports(train: list[str], count: int, seed: int = 0) -> list[str]:
    return list(np.random.default_rng(seed).choice(np.array(train, object), count))


def nearest_reports(train: Studies, studies: Studies) -> list[str]:
    """For each study the report of the train study whose image is most alike (cosine of the mean over views)."""
    known, asked = (_normed(s) for s in (train, studies))
    return list(train.table.report.iloc[(asked @ known.T).argmax(1)])


def _normed(studies: Studies) -> np.ndarray:
    mean = np.stack([views.mean(0) for views in studies.features])  # [N, D]
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def shuffled(studies: Studies, seed: int = 0) -> Studies:
    """Every study with the images of another one: a model that reads its images must get worse."""
    order = np.random.default_rng(seed).permutation(len(studies))
    features = list(studies.features)
    for here, there in zip(order, np.roll(order, 1), strict=True):
        features[here] = studies.features[there]
    return replace(studies, features=features)


def mean_image(studies: Studies, train: Studies) -> Studies:
    """Every study with one view that is the mean of all train images: what a model writes when it sees nothing."""
    mean = np.concatenate(train.features).mean(0, keepdims=True)  # [1, D]
    return replace(studies, features=[mean] * len(studies))
