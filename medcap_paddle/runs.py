"""A run directory: everything that writing reports needs, and nothing executes when it is opened.

runs/<run>/

    config.json          the settings
    vocab.json           the vocabulary the ids belong to
    model.json           {"shapes", "vocab_size", "vocab": digest of its tokens, "config", "features": attributes of
                         the features it was trained on, "made_by": versions and git commit}
    inputs.safetensors   what it keeps of its train inputs, their mean among it: see models.train_inputs
    knowledge.safetensors   what it knows beside images, where its decoder asks for it: see models.memory
    weights.safetensors  and history.csv, visualdl/, checkpoint.safetensors: see runtime.loop
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import __version__, models
from . import vocab as vocabulary
from .config import Config
from .models import train_inputs
from .models.decoder import Decoder
from .models.memory import ATTRIBUTE, Memory
from .models.train_inputs import FILE, Known
from .runtime.files import MedcapError, digest, lock, read_sealed, write_sealed
from .runtime.loop import WEIGHTS, load_weights, set_aside

if TYPE_CHECKING:
    from paddlenlp.data import Vocab

    from .dataset import Studies

FIX = "run 04_train.ipynb"


@dataclass
class Run:
    """A trained model in evaluation mode, and what it was trained with."""

    model: Decoder
    config: Config
    vocab: Vocab
    features: dict  # attributes of features.h5, and the fingerprint of its memory
    train_inputs: Known | None  # what it keeps of its train inputs; None in a run of an older version
    memory: Memory | None = None  # what it knows beside images, where its decoder asks for it

    @property
    def known(self) -> Known:
        """MedcapError in a run of an older version."""
        if not self.train_inputs:
            remedy = f"{FIX} again, which repeats no training"
            raise MedcapError(f"the run is of an older version, which kept no {FILE}: {remedy}")
        return self.train_inputs

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """The mean train image: arrays of one view, by the names of the inputs."""
        return self.known.mean


def save(run_dir: str | Path, config: Config, vocab: Vocab, train: Studies, features: dict) -> None:
    """Write all but the weights; weights of other settings are set aside. `features` are the attributes of its file."""
    run_dir, weights = Path(run_dir), Path(run_dir) / WEIGHTS
    features = {**features, **({ATTRIBUTE: train.memory.fingerprint} if train.memory else {})}
    facts = {"shapes": {name: list(shape) for name, shape in train.shapes.items()}, "vocab_size": len(vocab)}
    facts |= {"vocab": digest(vocabulary.tokens(vocab)), "features": features}
    facts |= {"config": config.to_dict(), "made_by": made_by()}
    with lock(weights):
        with suppress(MedcapError):  # the first time there is nothing to compare with
            if _settled(read_sealed(run_dir / "model.json", FIX)) != _settled(facts):
                set_aside(weights)
        config.save(run_dir / "config.json")
        vocabulary.save(vocab, run_dir / "vocab.json")
        train_inputs.write(run_dir, train, features)
        if train.memory:
            train.memory.save(run_dir)
        write_sealed(run_dir / "model.json", facts)


def load(run_dir: str | Path) -> Run:
    """Open a run; MedcapError when a file is missing, damaged, or not what the weights were trained with."""
    run_dir = Path(run_dir)
    facts = read_sealed(run_dir / "model.json", FIX)
    if "shapes" not in facts:
        raise MedcapError(f"{run_dir} was written by an older version: {FIX} again, or use the version that wrote it")
    config = Config.load(run_dir / "config.json")
    vocab = vocabulary.load(run_dir / "vocab.json")
    if _settled({**facts, "config": config.to_dict()}) != _settled(facts):
        raise MedcapError(f"{run_dir / 'config.json'} is not what the run was trained with: {FIX}")
    if digest(vocabulary.tokens(vocab)) != facts.get("vocab"):
        raise MedcapError(f"{run_dir / 'vocab.json'} is not what the run was trained with: {FIX}")
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    model = models.build(config.decoder, shapes, facts["vocab_size"], config.training.seed)
    load_weights(model, run_dir / WEIGHTS, FIX)
    model.eval()
    memory = models.recall(run_dir, config.decoder, run=facts["features"])
    return Run(model, config, vocab, facts["features"], train_inputs.read(run_dir, facts["features"], FIX), memory)


def _settled(facts: dict) -> dict:
    """What the weights depend on, of the facts in model.json."""
    config = Config.from_dict(facts["config"], "model.json")  # a setting that did not exist has its default
    return {**facts, "config": config.weight_settings(), "made_by": None}


def made_by() -> dict[str, str]:
    """Versions, and the git commit where there is one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    versions = {"medcap_paddle": __version__, "paddle": paddle.__version__, "numpy": np.__version__}
    return {**versions, "commit": commit or "unknown"}


def teacher_dir(run_dir: str | Path, config: Config) -> Path:
    """The run of teacher forcing: <run>_teacher where a reward follows, else the run itself."""
    run_dir = Path(run_dir)
    return run_dir.with_name(f"{run_dir.name}_teacher") if config.reward.epochs else run_dir


def other_seeds(run_dir: str | Path) -> list[str]:
    """Names of the runs beside `run_dir`, with predictions, that differ from it in the seed of their training only."""
    run_dir = Path(run_dir)

    def facts(path: Path) -> tuple[dict, dict]:
        content = read_sealed(path / "model.json", FIX)
        training = {**content["config"]["training"], "seed": None}
        return {**content["config"], "training": training}, content["features"]

    found = sorted(path.parent for path in run_dir.parent.glob(f"{run_dir.name}_seed*/predictions.csv"))
    named = [path for path in found if re.search(r"_seed\d+$", path.name)]  # not its own _shuffled or _greedy
    return [path.name for path in named if facts(path) == facts(run_dir)]
