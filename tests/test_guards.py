"""Laws of the guards: they count what a rewarded model writes, whoever of the ranks has read it."""

import numpy as np
import pandas as pd
import pytest

from medcap_paddle.metrics import guards
from medcap_paddle.runtime import distributed

REFERENCES = ["there is cardiomegaly . no effusion .", "the lungs are clear .", "left pleural effusion ."]
REPORTS = ["the heart is enlarged .", "a b c d a b c d .", "the heart is enlarged ."]


def figures(references=REFERENCES, reports=REPORTS):
    found = guards.Guards()
    found.add(references, reports)
    return found.figures()


def test_figures_by_hand():
    """5, 9 and 5 words; 2, 6 and 2 of four, of which "a b c d" comes twice; cardiomegaly is told, effusion is not."""
    assert figures() == pytest.approx(
        {"length": 19 / 3, "repetition": 1 / 10, "different": 2 / 3, "clinical_recall": 1 / 2}
    )
    assert tuple(figures()) == guards.NAMES


def test_batches_add_up_and_are_forgotten():
    found = guards.Guards()
    for _ in range(2):
        for reference, report in zip(REFERENCES, REPORTS, strict=True):
            found.add([reference], [report])
        assert found.figures() == pytest.approx(figures())


def test_each_guard_sees_what_it_guards_against():
    honest = figures(REFERENCES, REFERENCES)
    assert honest["clinical_recall"] == honest["different"] == 1 and honest["repetition"] == 0
    assert figures(reports=[f"{text} {text}" for text in REFERENCES])["repetition"] > 0.3
    assert figures(reports=[f"{text} heart ." for text in REFERENCES])["length"] == honest["length"] + 2
    assert figures(reports=REFERENCES[:1] * 3)["different"] == pytest.approx(1 / 3)
    assert figures(reports=[REFERENCES[1]] * 3)["clinical_recall"] == 0


def test_what_has_no_value_is_left_out_or_0():
    """No report has four words; no reference has a finding."""
    assert figures(["the lungs are clear ."], [""]) == {"length": 0, "repetition": 0, "different": 1}


def test_a_report_of_two_ranks_is_one_report(monkeypatch):
    """Each rank runs twice: first to tell what it brings to each sum, then with the sums of both."""
    brought, together = {0: [], 1: []}, []

    def run(rank):
        monkeypatch.setattr(distributed, "world", lambda: (rank, 2))
        calls = iter(list(together))

        def reduce(numbers):
            brought[rank].append(np.array(numbers, float))
            return next(calls, np.array(numbers, float))

        monkeypatch.setattr(distributed, "all_reduce_sum", reduce)
        half = slice(0, 2) if rank == 0 else slice(2, 3)
        return figures(REFERENCES[half], REPORTS[half])

    for level in range(3):  # the sums, the sizes, the table
        for rank in range(2):
            brought[rank].clear()
            run(rank)
        together.append(brought[0][level] + brought[1][level])
    monkeypatch.undo()
    expected = pytest.approx(figures())
    assert run(0) == expected and run(1) == expected


@pytest.mark.parametrize(
    "name, ends",
    [
        *[
            ("length", (20, 30)),
            ("repetition", (0.01, 0.05)),
            ("different", (0.9, 0.5)),
            ("clinical_recall", (0.4, 0.2)),
        ],
        ("", (1.0, 1.0)),
    ],
)
def test_a_guard_goes_wrong_only_while_the_reward_rises(name, ends):
    """Better is never wrong, and one epoch says nothing."""
    usual = {"length": [20, 20], "repetition": [0.0, 0.0], "different": [0.8, 0.8], "clinical_recall": [0.3, 0.3]}
    history = pd.DataFrame({"reward": [1.0, 2.0], **usual, **({name: ends} if name else {})})
    assert guards.gone_wrong(history) == ([name] if name else [])
    assert guards.gone_wrong(history.assign(reward=[2.0, 1.0])) == guards.gone_wrong(history.iloc[:1]) == []
    reverse = history.assign(**{name: ends[::-1]}) if name else history
    assert guards.gone_wrong(reverse) == []
    assert set(guards.WORSE) == set(guards.NAMES)
    assert name not in guards.gone_wrong(history.drop(columns=name or "length"))  # without findings there is no recall
