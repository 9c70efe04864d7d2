"""Laws of the systems that are compared: each is a preset, all are of the same studies, and small is smaller only."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from dataclasses import asdict

import pytest

from medcap_paddle import models
from medcap_paddle.config import PRESETS, Config, choose
from medcap_paddle.knowledge import systems
from medcap_paddle.models.decoder import SMALL
from medcap_paddle.runtime import stages
from medcap_paddle.runtime.files import MedcapError, write_table

SHAPES = {"pooled": (6,), "grid": (4, 6), "nodes": (5, 3), "triples": (7, 4)}


def test_every_system_is_a_preset_and_rewarded():
    assert set(systems.RUNS.values()) <= set(PRESETS)
    assert all(config.reward.epochs for config in systems.settings(Config()).values())


def test_all_are_of_the_same_reports_and_features():
    base = Config().change(reports={"min_freq": 1, "max_length": 40}, features={"views": "first"})
    for name, config in systems.settings(base).items():
        assert (config.reports, config.features) == (base.reports, base.features)
        assert config.decoder == choose(systems.RUNS[name]).decoder


def test_one_more_is_an_entry():
    found = systems.settings(Config(), names={**systems.RUNS, "mine": "original"})
    assert found["mine"].decoder == choose("original").decoder


@pytest.mark.parametrize("preset", PRESETS)
def test_small_is_smaller_and_nothing_else(preset):
    whole, small = choose(preset), systems.small(choose(preset))
    assert (small.training.epochs, small.reward.epochs) == (1, min(1, whole.reward.epochs))
    own, sizes = asdict(whole.decoder), asdict(small.decoder)
    assert type(small.decoder) is type(whole.decoder) and systems.small(small) == small
    assert all(value <= own[name] if name in SMALL else value == own[name] for name, value in sizes.items())


@pytest.mark.parametrize("name", systems.RUNS)
def test_a_small_decoder_can_be_built_and_is_tiny(name):
    counts = []
    for config in (choose(systems.RUNS[name]), systems.settings(Config(), quick=True)[name]):
        model = models.build(config.decoder, SHAPES, 30)
        stages.check(model, config.training)  # the parts that it names are there
        counts.append(sum(p.size for p in model.parameters()))
    assert counts[1] < counts[0] / 10


def test_minutes_are_of_the_teacher_and_of_the_reward(tmp_path):
    run = tmp_path / "lstm"
    pd = pytest.importorskip("pandas")
    for folder, seconds in ((run, [30, 60]), (tmp_path / "lstm_teacher", [90])):
        folder.mkdir()
        write_table(folder / "history.csv", pd.DataFrame({"epoch": range(len(seconds)), "seconds": seconds}))
    Config().save(run / "config.json")
    assert systems.spent(run) == pytest.approx(3.0)
    Config().change(reward={"epochs": 0}).save(run / "config.json")
    assert systems.spent(run) == pytest.approx(1.5)
    (run / "history.csv").unlink()
    with pytest.raises(MedcapError, match="history.csv.*run 32_decoders"):
        systems.spent(run)
