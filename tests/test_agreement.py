"""Laws of kappa: full agreement is 1, chance is 0, and it is what its definition counts by hand."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle.metrics.agreement import cohen, fleiss, kappa

ANSWERS = st.lists(st.tuples(*[st.sampled_from("abc")] * 4), min_size=1, max_size=12)


def by_pairs(cases):
    """Fleiss' kappa from its words: pairs of readers that agree, against two answers drawn from all of them."""
    agreed = np.mean([np.mean([x == y for x, y in combinations(case, 2)]) for case in cases])
    every = [answer for case in cases for answer in case]
    chance = sum((every.count(name) / len(every)) ** 2 for name in set(every))
    return (agreed - chance) / (1 - chance) if chance < 1 else np.nan


@given(ANSWERS)
def test_fleiss_is_its_definition(cases):
    assert kappa(list(zip(*cases, strict=True))) == pytest.approx(by_pairs(cases), nan_ok=True)


@given(ANSWERS)
def test_cohen_is_its_definition(cases):
    first, second = [case[0] for case in cases], [case[1] for case in cases]
    agreed = np.mean([x == y for x, y in zip(first, second, strict=True)])
    chance = np.mean([x == y for x in first for y in second])
    assert kappa([first, second]) == pytest.approx(
        (agreed - chance) / (1 - chance) if chance < 1 else np.nan, nan_ok=True
    )


def test_full_agreement_is_1_and_none_is_below_0():
    assert cohen("abca", "abca") == 1 and fleiss([[3, 0], [0, 3], [3, 0]]) == 1
    assert cohen("ab", "ba") == -1 and fleiss([[1, 1], [1, 1]]) == -1


def test_where_nobody_could_have_disagreed_it_is_undefined():
    assert np.isnan(cohen("aaa", "aaa")) and np.isnan(fleiss([[3, 0], [3, 0]])) and np.isnan(cohen("", ""))


@pytest.mark.parametrize("counts", [[[2, 0], [1, 0]], [[1, 0], [0, 1]]])
def test_cases_of_other_numbers_of_readers_are_refused(counts):
    with pytest.raises(ValueError, match="the same number, two at least"):
        fleiss(counts)
