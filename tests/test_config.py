"""Settings travel with a run and refuse what they do not know."""

import dataclasses
import json

import pytest

from medcap_paddle.config import Config
from medcap_paddle.files import MedcapError


@pytest.mark.parametrize("preset", [Config, Config.tiny, Config.original])
def test_a_saved_config_comes_back_equal(preset, tmp_path):
    preset(seed=7).save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json") == preset(seed=7)


def test_an_unknown_key_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hiden": 3}))
    with pytest.raises(MedcapError, match="config.json.*hiden"):
        Config.load(tmp_path / "config.json")
    with pytest.raises(TypeError):
        Config(hiden=3)


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


def test_the_original_has_its_faults():
    original = Config.original()
    assert (original.layers, original.views, original.loss_on_padding) == (32, "first", True)


@pytest.mark.parametrize(
    "content", ["[]", '{"hidden": "256"}', '{"hidden": 2.5}', '{"remind": 1}', '{"dropout": null}']
)
def test_a_value_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MedcapError, match="config.json.*run 04_train.ipynb"):
        Config.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"dropout": 0, "seed": 3}')  # a whole number is a float too
    assert Config.load(tmp_path / "config.json") == Config(dropout=0, seed=3)


def test_a_quick_run_keeps_the_kind_of_its_run():
    assert Config.of("original") == Config.original() and Config.of("anything") == Config()
    assert Config.of("anything", quick=True) == Config.tiny()
    quick = Config.of("original", quick=True)
    assert quick.layers == 32 and quick.epochs < Config.original().epochs
