"""Settings travel with a run and refuse what they do not know."""

import dataclasses
import json

import pytest

from medcap_paddle import feature_file
from medcap_paddle.config import PRESETS, Config, choose
from medcap_paddle.models import name_of
from medcap_paddle.runtime.files import MedcapError


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_config_comes_back_equal(preset, tmp_path):
    config = choose(preset).change(training={"seed": 7})
    config.save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json") == config


@pytest.mark.parametrize("content", [{"hiden": {}}, {"decoder": {"name": "lstm", "hiden": 3}}])
def test_an_unknown_setting_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(MedcapError, match="config.json.*hiden"):
        Config.load(tmp_path / "config.json")
    with pytest.raises(TypeError):
        Config().change(decoder={"hiden": 3})


def test_an_unknown_decoder_and_an_unknown_preset_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"decoder": {"name": "gru"}}))
    with pytest.raises(MedcapError, match="config.json: no decoder is called 'gru': choose lstm"):
        Config.load(tmp_path / "config.json")
    with pytest.raises(MedcapError, match="no preset is called 'orignal': choose .*original, phantom, phrased, real"):
        choose("orignal")


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.seed = 1


def test_the_original_has_its_faults():
    original = choose("original")
    faults = original.decoder.layers, original.features.views, original.training.loss_on_padding
    assert faults == (32, "first", True)


@pytest.mark.parametrize(
    "content",
    [
        *("[]", '{"decoder": 3}', '{"decoder": {"name": "lstm", "hidden": "256"}}'),
        *('{"training": {"epochs": 2.5}}', '{"training": {"loss_on_padding": 1}}', '{"training": {"clip": null}}'),
        '{"hidden": 256, "dropout": 0.1}',  # as older versions wrote it
    ],
)
def test_a_value_of_another_type_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MedcapError, match="config.json.*run 04_train.ipynb"):
        Config.load(tmp_path / "config.json")


def test_a_whole_number_is_a_float_too(tmp_path):
    (tmp_path / "config.json").write_text('{"decoder": {"name": "lstm", "dropout": 0}, "training": {"seed": 3}}')
    assert Config.load(tmp_path / "config.json") == Config().change(decoder={"dropout": 0}, training={"seed": 3})


def test_the_preset_decides_and_not_the_name_of_the_run():
    assert choose() == Config() and choose(reports="phantom") == choose("phantom")
    assert choose(reports="phrased") == choose("phrased")
    assert choose(quick=True, reports="phantom") == choose("tiny")
    original, quick = choose("original"), choose("original", quick=True)
    assert original == choose("original")
    assert quick.decoder == original.decoder and quick.training.epochs < original.training.epochs


def test_a_preset_may_name_another_decoder():
    """And 02 then extracts what that decoder reads."""
    for name in ("attention_lstm", "transformer"):
        config = choose(name)
        assert name_of(config.decoder) == name and feature_file.needed(config) == ["pooled", "grid"]
    assert feature_file.needed(choose("real")) == ["pooled"]


def test_weights_depend_on_everything_but_the_search():
    config = Config()
    assert config.change(generation={"beam_size": 7}).weight_settings() == config.weight_settings()
    assert config.change(reports={"min_freq": 1}).weight_settings() != config.weight_settings()


def test_without_dropout_nothing_else_changes():
    settings = Config().decoder
    calm = settings.without_dropout()
    assert (calm.dropout, calm.feature_dropout, calm.feature_noise) == (0, 0, 0)
    assert dataclasses.replace(calm, dropout=0.5, feature_dropout=0.3, feature_noise=0.5) == settings
