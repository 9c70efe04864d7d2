"""The settings of a run: one frozen dataclass of small groups. Functions take the group they need; every run saves all.

A preset is a file of `presets/` that says what differs from the defaults; another one is an entry of `PRESETS`:

    real      for the reports of radiologists
    phantom   for a phantom's, whose language is simple: smaller, and trained in minutes
    phrased   for reports phrased from the labels of real images: as simple, with fewer numbers to know a study by
    tiny      seconds, for tests and a first look
    original  the AI Studio notebook as it was, to see what it does

    attention_lstm, transformer, knowledge, ... and lstm_weighted    for the table of notebook 34: `knowledge.systems`
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .runtime.files import MedcapError, read_json, write_json
from .runtime.settings import only, typed

if TYPE_CHECKING:
    from .models.decoder import DecoderSettings

FIX = "fix it or run 04_train.ipynb"
RUN = "lstm"  # the name of a run, unless another is given


@dataclass(frozen=True)
class ReportSettings:
    split: str = "auto"  # annotation.json where the collection has one, else "7:1:2"; "8:2" has no val
    cleaning: str = "r2gen"  # or "original"
    seed: int = 0  # of the split
    min_freq: int = 3  # words seen fewer times in train become <unk>
    max_length: int = 60  # token ids of a report, the begin token included


@dataclass(frozen=True)
class FeatureSettings:
    encoder: str = "auto"  # a name of encoder.ENCODERS, or what suits the images
    views: str = "all"  # or "first": the first figure of each report only


@dataclass(frozen=True)
class TrainingSettings:
    seed: int = 0
    batch_size: int = 32
    epochs: int = 24
    learning_rate: float = 2e-3
    schedule: str = "cosine"  # of the learning rate, to 0 at the last epoch; or another of loop.SCHEDULES
    warmup: float = 0.0  # share of the steps in which the learning rate rises to its value
    weight_decay: float = 0.0
    clip: float = 5.0  # global gradient norm
    patience: int = 4  # epochs without a better validation figure before stopping
    loss_on_padding: bool = False
    batch_tokens: int = 0  # above 0, in place of batch_size: words and entities of a batch, padding counted
    precision: str = "float32"  # or "bfloat16": matrix products, on a GPU that computes in it
    visual_rate: float = 1.0  # factor of the learning rate for the decoder's part "visual" (runtime.stages); 0: never
    knowledge_rate: float = 1.0  # the same for its part "knowledge"
    frozen: int = 0  # first epochs in which the part "visual" does not learn
    auxiliary_weight: float = 0.0  # of the loss that the decoder brings beside that of the words
    finding_weight: float = 1.0  # how often a word counts in a sentence that tells a finding: these are rare
    averaging: float = 0.0  # epochs whose steps' weights are averaged into those that are kept (runtime.averaging)
    drafts: bool = False  # beside the reports, learn to write the drafts of the decoder's memory (models.memory)
    # Not in the fingerprint of a training at their defaults:
    LATER: ClassVar = (
        *("batch_tokens", "precision", "visual_rate", "knowledge_rate", "frozen", "auxiliary_weight"),
        *("finding_weight", "averaging", "drafts"),
    )


@dataclass(frozen=True)
class RewardSettings:
    """The second training, which follows teacher forcing."""

    epochs: int = 6  # 0: no reward
    learning_rate: float = 4e-4
    samples: int = 5  # reports that the model writes for a study
    metric: str = "cider_bleu4"  # or another of metrics.rewards
    baseline: str = "others"  # a report is judged against: the others of its study, or the "greedy" one


@dataclass(frozen=True)
class GenerationSettings:
    """May be edited in the config.json of a finished run: its weights do not depend on them."""

    beam_size: int = 2  # after the reward 1 writes briefly (CIDEr), 3 at length (BLEU); before it, 3
    min_length: int = 5
    length_penalty: float = 2.0
    no_repeat_ngram: int = 5  # "there is no pneumothorax ." once is enough
    repetition_penalty: float = 1.0  # above 1, words already written become less likely
    temperature: float = 0.0  # above 0, one report a study is drawn instead of searched for; 1: as the model means it
    top_p: float = 1.0  # draw from the likeliest words that have this probability together
    seed: int = 0  # of what is drawn
    consensus: int = 0  # above 1, so many are drawn, and the one that is most like the others is written
    ban_unk: bool = True


def _default_decoder() -> DecoderSettings:
    from .models import DECODERS

    return next(iter(DECODERS.values())).Settings()


@dataclass(frozen=True)
class Config:
    reports: ReportSettings = field(default_factory=ReportSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    decoder: DecoderSettings = field(default_factory=_default_decoder)  # of a class in models.DECODERS
    training: TrainingSettings = field(default_factory=TrainingSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)

    def change(self, **groups: dict[str, Any]) -> Config:
        """A copy with some settings changed: config.change(training={"epochs": 2}, decoder={"hidden": 64})."""
        return replace(self, **{name: replace(getattr(self, name), **values) for name, values in groups.items()})

    def teacher(self) -> Config:
        """The settings of teacher forcing where a reward follows: before it, a search pays."""
        return self.change(reward={"epochs": 0}, generation={"beam_size": 3}) if self.reward.epochs else self

    def searching(self, beam_size: int) -> Config:
        """These settings with a search of that width, 1 being greedy, where reports would be drawn."""
        return self.change(generation={"beam_size": beam_size, "temperature": 0.0, "consensus": 0})

    def weight_settings(self) -> dict[str, Any]:
        """What the weights depend on: all groups but generation."""
        return {name: values for name, values in self.to_dict().items() if name != "generation"}

    def to_dict(self) -> dict[str, Any]:
        """As config.json has it; the decoder's group begins with its name."""
        from .models import name_of

        values = asdict(self)
        return {**values, "decoder": {"name": name_of(self.decoder), **values["decoder"]}}

    @classmethod
    def from_dict(cls, values: object, where: str | Path) -> Config:
        """The inverse of `to_dict`. MedcapError on an unknown or missing name and on a value of another type."""
        from .models import settings_of

        groups = {item.name: item.default_factory for item in fields(cls)}
        if not isinstance(values, dict) or not all(isinstance(group, dict) for group in values.values()):
            raise MedcapError(f"{where} holds no settings in groups ({', '.join(groups)}): {FIX}")
        only(values, groups, where)
        values = {name: dict(values.get(name, {})) for name in groups}
        if values["decoder"]:
            groups["decoder"] = settings_of(values["decoder"].pop("name", None), where)
        return cls(**{name: typed(groups[name], values[name], f"{where}: {name}", FIX) for name in groups})

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a config.json; MedcapError on a missing file, an unknown setting or a value of another type."""
        return cls.from_dict(read_json(path, "run 04_train.ipynb"), path)

    def save(self, path: str | Path) -> None:
        write_json(path, self.to_dict())


PRESETS = {path.stem: path for path in sorted(Path(__file__).with_name("presets").glob("*.json"))}


def choose(preset: str = "", quick: bool = False, reports: str = "real") -> Config:
    """The settings to start from: those of `preset`, or what suits the reports of the collection.

    `reports` is "real", "phantom" or "phrased", as collection.json has it. `quick` trains a tiny model, or the preset
    for two epochs. MedcapError on a preset that does not exist.
    """
    if preset and preset not in PRESETS:
        raise MedcapError(f"no preset is called {preset!r}: choose {', '.join(PRESETS)}")
    config = Config.load(PRESETS[preset or ("tiny" if quick else reports)])
    return config.change(training={"epochs": 2}) if preset and quick else config
