"""Laws of training in stages: a part learns at its rate, a frozen one not at all, and all of it can be interrupted."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from medcap_paddle import reward, train
from medcap_paddle.config import TrainingSettings, choose
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime import loop, stages
from medcap_paddle.runtime.files import MedcapError

SETTINGS = TrainingSettings(epochs=3, batch_size=24, learning_rate=3e-3, patience=9)
NET = LSTMCaptioner.Settings(embed=8, hidden=8, dropout=0.1, feature_noise=0.0)


class Parted(LSTMCaptioner):
    parts = {"visual": ("image",), "knowledge": ("gate", "words.weight")}


def part_of(name):
    owners = [part for part, names in Parted.parts.items() if name.startswith(names)]
    return owners[0] if owners else "rest"


def fit(folder, studies, decoder=Parted, on_epoch=None, **changes):
    split, val, vocab = studies
    paddle.seed(0)
    model = decoder(NET, split.shapes, len(vocab))
    model.standardise(split.inputs)
    start = loop.tensors(model)
    train.fit(model, split, val, folder, replace(SETTINGS, **changes), on_epoch)
    return model, start


def moved(start, model, names=None):
    """The largest change of each parameter of a part."""
    end = loop.tensors(model)
    found = {}
    for name, _ in model.named_parameters():
        found.setdefault(part_of(name), []).append(np.abs(end[name] - start[name]).max())
    return found


def test_a_part_learns_at_its_rate(studies, tmp_path):
    """The first step of Adam is as long as the learning rate, whatever the gradient."""
    step = {"epochs": 1, "batch_size": 96, "schedule": "constant"}
    usual = moved(*reversed(fit(tmp_path / "usual", studies, **step)))
    rated = moved(*reversed(fit(tmp_path / "rated", studies, **step, visual_rate=0.5, knowledge_rate=0.1)))
    for part, factor in (("visual", 0.5), ("knowledge", 0.1), ("rest", 1.0)):
        np.testing.assert_allclose(rated[part], np.multiply(usual[part], factor), rtol=2e-3)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_frozen_part_keeps_its_bytes_and_then_learns(studies, tmp_path, decay):
    seen = []

    def watching(self, module, epoch):
        seen.append(loop.tensors(module))  # as they are at the start of the epoch
        return stages.groups(module, self.settings, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.TeacherForcing, "groups", watching)
        model, start = fit(tmp_path, studies, epochs=3, frozen=2, weight_decay=decay)
    assert len(seen) == 3
    for name, _ in model.named_parameters():
        bytes_ = [values[name].tobytes() for values in (start, *seen[1:], loop.tensors(model))]
        if part_of(name) == "visual":
            assert bytes_[0] == bytes_[1] == bytes_[2] != bytes_[3], name
        else:
            assert bytes_[0] != bytes_[1] != bytes_[2] != bytes_[3], name


def test_a_part_of_factor_0_keeps_its_bytes_for_ever(studies, tmp_path):
    model, start = fit(tmp_path, studies, knowledge_rate=0.0, weight_decay=0.1)
    changes = moved(start, model)
    assert not any(changes["knowledge"]) and all(changes["visual"]) and all(changes["rest"])


def test_what_does_not_learn_does_not_clip_the_others():
    net = Parted(NET, {"pooled": (8,)}, 9)
    sizes = {name: 1e3 if part_of(name) == "visual" else 1e-3 for name, _ in net.named_parameters()}

    def clipped(epoch=0):
        """The largest gradient of each parameter, after the clip of that epoch of a training frozen in the first."""
        if epoch:
            stages.apply(stages.groups(net, TrainingSettings(frozen=1), epoch))
        gradients = [
            (parameter, paddle.full_like(parameter, sizes[name])) for name, parameter in net.named_parameters()
        ]
        found = paddle.nn.ClipGradByGlobalNorm(1.0)(gradients)
        return {name: float(gradient.max()) for name, (_, gradient) in zip(sizes, found, strict=True)}

    together, frozen, thawed = clipped(), clipped(1), clipped(2)
    assert thawed == together
    for name in (name for name in sizes if part_of(name) != "visual"):
        assert frozen[name] == pytest.approx(sizes[name]) and together[name] < sizes[name] / 1000


@pytest.mark.parametrize("stop", [1, 2])
def test_interrupted_stages_resume_to_identical_weights(studies, tmp_path, stop):
    """Within the frozen stage, and at its end."""
    changes = {"frozen": 2, "visual_rate": 0.3, "knowledge_rate": 2.0, "epochs": 4, "warmup": 0.2}
    fit(tmp_path / "whole", studies, **changes)

    def on_epoch(history):
        if len(history) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", studies, on_epoch=on_epoch, **changes)
    fit(tmp_path / "stopped", studies, **changes)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_parts_at_the_usual_settings_change_nothing(studies, tmp_path):
    for decoder in (LSTMCaptioner, Parted):
        fit(tmp_path / decoder.__name__, studies, decoder, epochs=2)
    weights = [path.read_bytes() for path in tmp_path.glob("*/weights.safetensors")]
    assert len(weights) == 2 and weights[0] == weights[1]


@pytest.mark.parametrize("change", [{"visual_rate": 0.1}, {"knowledge_rate": 0.0}, {"frozen": 1}])
def test_a_decoder_without_the_part_is_refused(studies, tmp_path, change):
    [(name, value)] = change.items()
    with pytest.raises(MedcapError, match=f"{name} is {value}, but LSTMCaptioner names no part .*: set {name} to"):
        fit(tmp_path, studies, LSTMCaptioner, **change)


def test_wrong_parts_and_factors_are_named(studies, tmp_path, monkeypatch):
    with pytest.raises(MedcapError, match="visual_rate is -1: use 0 or more"):
        fit(tmp_path, studies, visual_rate=-1)
    monkeypatch.setattr(Parted, "parts", {"visual": ("images",)})
    with pytest.raises(MedcapError, match="part 'visual' of Parted names images, which it has not"):
        fit(tmp_path, studies)


def test_the_reward_has_no_frozen_stage(studies):
    split, val, vocab = studies
    config = choose("tiny").change(training={"frozen": 3, "visual_rate": 0.5})
    settings = reward.SelfCritical(Parted(NET, split.shapes, len(vocab)), split, val, vocab, config).settings
    assert (settings.frozen, settings.visual_rate) == (0, 0.5)
