"""BLEU and CIDEr, the only ones in the house: of an evaluation, of the reward, and of the search for a constant.

    cider(references, predictions)           [n]        of each study
    bleu_counts(references, predictions)     [n, 10]    of each study; bleu(their sum [..., 10]) -> [..., 4]
    constant_cider(references, texts)        [t]        each text as the prediction of every study
    constant_bleu(references, texts)         [t, 4]
    document_frequency(texts)                for a CIDEr with the document frequencies of other texts

A text is words with blanks between them. The values equal those of pycocoevalcap to rounding (without its PTB
tokenizer: the text is tokenized already). Here they are products of sparse matrices of n-gram counts, since the
library's dictionaries take gigabytes for 100,000 reports, and minutes for the search of a constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SIGMA = 6.0  # width of CIDEr's length penalty
BLOCK = 1000  # pairs that are counted at a time


def ngrams(text: str) -> list[str]:
    """The 1- to 4-grams of a text."""
    words = text.split()
    return [" ".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)]


@dataclass(frozen=True)
class DocumentFrequency:
    """The number of `texts`, and in how many of them each n-gram occurs."""

    texts: int
    occurs: Counter[str]

    @property
    def differ(self) -> bool:
        """Whether any n-gram is rarer than another: else every weight of CIDEr is 0, and CIDEr is undefined."""
        return any(count < self.texts for count in self.occurs.values())

    def idf(self, grams: Sequence[str]) -> np.ndarray:
        """Inverse document frequency [G]; an n-gram that occurs in no text counts as if it occurred in one."""
        return np.log(self.texts) - np.log([max(self.occurs[gram], 1) for gram in grams])


def document_frequency(texts: Sequence[str]) -> DocumentFrequency:
    return DocumentFrequency(len(texts), Counter(gram for text in texts for gram in set(ngrams(text))))


@dataclass(frozen=True)
class NGramCounts:
    """The n-grams of n references and their predictions, counted in the same G columns.

    One prediction belongs to every reference: `predictions` has n rows or a single one.
    """

    references: csr_matrix  # [n, G]
    predictions: csr_matrix  # [n, G] or [1, G]
    grams: Sequence[str]  # [G]
    length: np.ndarray  # [G, 4], one-hot

    @classmethod
    def of(cls, references: Sequence[str], predictions: Sequence[str]) -> NGramCounts:
        from sklearn.feature_extraction.text import CountVectorizer

        row = {text: i for i, text in enumerate(dict.fromkeys([*references, *predictions]))}  # equal texts count once
        vectorizer = CountVectorizer(analyzer=ngrams, dtype=np.float64)
        counts = vectorizer.fit_transform([*row, "."])  # it refuses texts that are all empty
        grams = vectorizer.get_feature_names_out()
        sides = (counts[[row[text] for text in texts]] for texts in (references, predictions))
        return cls(*sides, grams, np.eye(4)[[gram.count(" ") for gram in grams]])

    def constants(self) -> Iterator[NGramCounts]:
        """The same references with each of the predictions in turn."""
        for i in range(self.predictions.shape[0]):
            yield replace(self, predictions=self.predictions[[i]])

    def matched(self) -> csr_matrix:
        """The smaller one of both counts [n, G]."""
        if self.predictions.shape == self.references.shape:
            return self.references.minimum(self.predictions)
        smaller = self.references.copy()
        smaller.data = np.minimum(smaller.data, self.predictions.toarray()[0, smaller.indices])
        return smaller

    def bleu(self) -> np.ndarray:
        """`bleu_counts` [n, 10]."""
        reference = self.references @ self.length  # [n, 4]
        guess = np.broadcast_to(self.predictions @ self.length, reference.shape)
        return np.concatenate([self.matched() @ self.length, guess, guess[:, :1], reference[:, :1]], 1)

    def weights(self, frequency: DocumentFrequency) -> np.ndarray:
        """Squared inverse document frequency in the column of the n-gram's length [G, 4]: what `cider` takes."""
        return self.length * frequency.idf(self.grams)[:, None] ** 2

    def cider(self, weights: np.ndarray) -> np.ndarray:
        """CIDEr of each study [n]."""
        product = self.matched().multiply(self.references) @ weights  # [n, 4]
        squares = (self.references.power(2) @ weights) * (self.predictions.power(2) @ weights)
        similarity = np.divide(product, np.sqrt(squares), out=np.zeros_like(product), where=squares > 0)
        bigrams = self.length[:, 1]  # the library measures the length of a text in bigrams
        difference = self.predictions @ bigrams - self.references @ bigrams  # [n]
        return 10 * similarity.mean(1) * np.exp(-(difference**2) / (2 * SIGMA**2))


def _blocks(references: Sequence[str], predictions: Sequence[str]) -> Iterator[NGramCounts]:
    for i in range(0, len(references), BLOCK):
        yield NGramCounts.of(references[i : i + BLOCK], predictions[i : i + BLOCK])


def cider(
    references: Sequence[str], predictions: Sequence[str], frequency: DocumentFrequency | None = None
) -> np.ndarray:
    """CIDEr of each study [n], 0 to 10 (Vedantam et al., CVPR 2015, equations 1 to 4, with the clipping and the length
    penalty of its CIDEr-D).

    `frequency` is the `document_frequency` of other texts than these references.
    """
    frequency = frequency or document_frequency(references)
    return np.concatenate([counts.cider(counts.weights(frequency)) for counts in _blocks(references, predictions)])


def bleu_counts(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """What BLEU is made of, of each study [n, 10]: 1- to 4-grams that match, 1- to 4-grams of the prediction, words of
    the prediction, words of the reference.
    """
    return np.concatenate([counts.bleu() for counts in _blocks(references, predictions)])


def bleu(counts: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1..4 [..., 4] from summed counts [..., 10] (Papineni et al., ACL 2002), with pycocoevalcap's
    constants against a division by 0.
    """
    correct, guess, length, reference = counts[..., :4], counts[..., 4:8], counts[..., 8], counts[..., 9]
    precision = (correct + 1e-15) / (guess + 1e-9)
    mean = np.exp(np.cumsum(np.log(precision), -1) / np.arange(1, 5))
    ratio = (length + 1e-15) / (reference + 1e-9)
    return mean * np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)[..., None]


def constant_cider(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Mean CIDEr of each text [t] when it is the prediction of every study."""
    counts = NGramCounts.of(references, texts)
    weights = counts.weights(document_frequency(references))
    return np.array([constant.cider(weights).mean() for constant in counts.constants()])


def constant_bleu(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Corpus BLEU-1..4 of each text [t, 4] when it is the prediction of every study."""
    return np.stack([bleu(constant.bleu().sum(0)) for constant in NGramCounts.of(references, texts).constants()])
