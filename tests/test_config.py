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
