"""The settings of a run, in one frozen dataclass that is saved with every run.

Config()            what we recommend for the reports of radiologists
Config.phantom()    the same for a phantom's, whose language is simple: smaller, and learnt in minutes
Config.tiny()       seconds, for tests and a first look
Config.original()   the AI Studio notebook as it was, to see what it does
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from .files import MedcapError, read_json, write_json


@dataclass(frozen=True)
class Config:
    seed: int = 0
    # reports
    split: str = "auto"  # annotation.json where the collection has one, else "7:1:2"; "8:2" has no val
    cleaning: str = "r2gen"  # or "original"
    # features
    encoder: str = "auto"  # "resnet101", "small", "random"
    # vocabulary
    min_freq: int = 3
    # dataset
    views: str = "all"  # or "first": the first figure of each report only
    max_length: int = 60  # token ids of a report, the begin token included
    # model
    embed: int = 512
    hidden: int = 512
    layers: int = 1
    dropout: float = 0.5
    feature_dropout: float = 0.3  # of the image: no finding may hang on a single number
    feature_noise: float = 0.5  # in standard deviations: nor may a study be known by its numbers
    remind: bool = True  # keep the image in sight at every word, not only before the first
    # training
    batch_size: int = 32
    epochs: int = 24
    learning_rate: float = 2e-3
    schedule: str = "cosine"  # of the learning rate, to 0 at the last epoch; or "constant"
    clip: float = 5.0  # global gradient norm
    patience: int = 4  # epochs without a better validation perplexity before stopping
    loss_on_padding: bool = False
    # reward: what follows teacher forcing
    reward_epochs: int = 6  # 0: nothing
    reward_rate: float = 4e-4  # its learning rate
    reward_samples: int = 5  # reports that the model writes for a study
    # generation
    beam_size: int = 2  # after the reward 1 writes briefly (CIDEr), 3 at length (BLEU); before it, 3
    min_length: int = 5
    length_penalty: float = 2.0
    no_repeat_ngram: int = 5  # "there is no pneumothorax ." once is enough
    ban_unk: bool = True

    @classmethod
    def of(cls, run: str, quick: bool = False, reports: str = "real") -> Config:
        """The settings a notebook starts from: `original()` for a run of that name; `quick` trains a tiny model.

        `reports` is "real" or "phantom", as collection.json has it.
        """
        if run == "original":
            return cls.original(epochs=2) if quick else cls.original()
        if quick:
            return cls.tiny()
        return cls.phantom() if reports == "phantom" else cls()

    def teacher(self) -> Config:
        """The settings of teacher forcing where a reward follows: before it, a search pays."""
        return replace(self, reward_epochs=0, beam_size=3) if self.reward_epochs else self

    @classmethod
    def phantom(cls, **changes) -> Config:
        small = {"embed": 256, "hidden": 256, "dropout": 0.3, "feature_dropout": 0.1, "feature_noise": 0.0}
        training = {"batch_size": 16, "epochs": 14, "learning_rate": 3e-3, "reward_epochs": 0, "beam_size": 3}
        return replace(cls(), **small | training | changes)

    @classmethod
    def tiny(cls, **changes) -> Config:
        small = {"embed": 128, "hidden": 128, "epochs": 10, "learning_rate": 5e-3, "min_freq": 1}
        return cls.phantom(**small | {"reward_epochs": 1, "reward_samples": 2} | changes)

    @classmethod
    def original(cls, **changes) -> Config:
        return replace(
            cls(
                split="8:2",
                cleaning="original",
                views="first",
                layers=32,
                dropout=0.0,
                feature_dropout=0.0,
                feature_noise=0.0,
                remind=False,
                min_freq=1,
                epochs=14,
                learning_rate=1e-3,
                schedule="constant",
                loss_on_padding=True,
                reward_epochs=0,
                beam_size=3,
                length_penalty=1.0,
                no_repeat_ngram=0,
                ban_unk=False,
            ),  # fmt: skip
            **changes,
        )

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a saved config; MedcapError on a missing file or an unknown key."""
        values = read_json(path, "run 04_train.ipynb")
        if not isinstance(values, dict):
            raise MedcapError(f"{path} holds no settings: run 04_train.ipynb")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            names = ", ".join(unknown)
            raise MedcapError(f"{path} has unknown settings {names}: remove them or use the version that wrote it")
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name, value in values.items():
            if type(value) is not kinds[name] and not (kinds[name] is float and type(value) is int):
                kind = kinds[name].__name__
                raise MedcapError(f"{path}: {name} is {value!r}, which is no {kind}: mend it or run 04_train.ipynb")
        return cls(**values)

    def save(self, path: str | Path) -> None:
        write_json(path, asdict(self))
