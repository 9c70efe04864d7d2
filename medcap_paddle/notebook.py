"""The line that starts a notebook: where everything is written, and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import config as presets
from .config import Config
from .reports import Collection
from .runtime import cpu
from .runtime.files import read_table
from .runtime.quiet import hide_harmless

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]  # the repository
MAKER = "run 01_reports.ipynb"


@dataclass(frozen=True)
class Session:
    work: Path  # everything the notebooks write
    run_dir: Path  # the run that notebooks 04 to 06 work on
    config: Config

    @property
    def runs(self) -> Path:
        return self.run_dir.parent

    def table(self, name: str, columns: list[str]) -> pd.DataFrame:
        """A table of 01, every cell a string; MedcapError when the file or one of `columns` is missing."""
        return read_table(self.work / name, columns, MAKER)


def start(work_dir: str | Path = "", run: str = presets.RUN, preset: str = "", quick: bool = False) -> Session:
    """Prepare a notebook: hide harmless warnings and choose the settings (see `config.choose`).

    `work_dir` is taken from the folder of the kernel; left empty it is work/ in the repository, wherever the kernel
    was started. MedcapError on a preset that does not exist and on a damaged collection.json.
    """
    work = Path(work_dir).resolve() if work_dir else ROOT / "work"
    reports = Collection.load(work).reports if (work / "collection.json").exists() else "real"
    with hide_harmless():
        import paddle

        paddle.disable_signal_handler()  # else a kernel that is shut down reports a fatal error
        config = presets.choose(preset, quick, reports)
    print(f"{work}, run {run}; Paddle {paddle.__version__} on {paddle.device.get_device()}, {cpu.cores()} cores")
    return Session(work, work / "runs" / run, config)
