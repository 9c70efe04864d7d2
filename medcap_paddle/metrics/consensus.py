"""The report that many drawn reports agree on (minimum Bayes risk: Kumar and Byrne, NAACL 2004).

What is likeliest, word by word, is what radiologists write about most studies. What most resembles all that a model
would write about this study says more of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from . import ngrams


def consensus(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The different ones of these texts, the one most like the others first: each with its mean likeness to the others,
    0 to 10.

    Likeness is CIDEr with all n-grams weighed alike: no other text is needed to know it. Of equals, the one that came
    first is first.
    """
    if not texts:
        return []
    drawn = Counter(texts)
    own, times = list(drawn), np.array([*drawn.values()])
    n = len(own)
    counts = ngrams.NGramCounts.of(np.repeat(own, n).tolist(), own * n)
    likeness = counts.cider(counts.length).reshape(n, n)  # [the other, itself]
    likeness = (times @ likeness - likeness.diagonal()) / max(times.sum() - 1, 1)  # itself is not among the others
    order = np.argsort(-likeness, kind="stable")
    return [(own[k], float(likeness[k])) for k in order]
