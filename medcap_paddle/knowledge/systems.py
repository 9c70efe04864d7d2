"""The systems that are compared: `RUNS`, from the name of a run to the preset that it is trained by.

    settings(base)           the settings of each
    spent(runs_dir, name)    minutes that a run was trained

Notebook 32 trains them, 33 rewards them, 34 makes their table. Another one is an entry: RUNS["mine"] = "a preset".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .. import config as presets
from .. import runs
from ..config import Config
from ..runtime.files import read_table
from ..runtime.loop import HISTORY

RUNS: dict[str, str] = {
    "lstm_weighted": "lstm_weighted",  # the LSTM by the recipe of the others
    "attention_lstm": "attention_lstm",
    "transformer": "transformer",
    "transformer_retrieval": "transformer_retrieval",
    "transformer_graph": "transformer_graph",
    "knowledge": "knowledge",
}
FIX = "run 32_decoders.ipynb"


def small(config: Config) -> Config:
    """The same system in seconds, for a first look: a tiny decoder, an epoch of each training, few samples a study."""
    reward = {"epochs": min(1, config.reward.epochs), "samples": 2}
    few = config.change(
        training={"epochs": 1}, reward=reward, generation={"consensus": min(3, config.generation.consensus)}
    )
    return replace(few, decoder=config.decoder.small())


def settings(base: Config, quick: bool = False, names: Mapping[str, str] = RUNS) -> dict[str, Config]:
    """The settings of each run. Reports and features are those of `base`, since all are compared on the same studies;
    `quick` makes each `small`.
    """
    found = {
        run: replace(presets.choose(preset), reports=base.reports, features=base.features)
        for run, preset in names.items()
    }
    return {run: small(config) for run, config in found.items()} if quick else found


def spent(run_dir: str | Path) -> float:
    """Minutes of all epochs of a run: of its teacher, and of the reward where there is one."""
    config = Config.load(Path(run_dir) / "config.json")
    folders = dict.fromkeys([runs.teacher_dir(run_dir, config), Path(run_dir)])
    tables = (read_table(folder / HISTORY, ["seconds"], FIX) for folder in folders)
    return sum(table.seconds.astype(float).sum() for table in tables) / 60
