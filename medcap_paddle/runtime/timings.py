"""Where the minutes of a run went, by what papermill noted in the notebooks that it wrote.

python -m medcap_paddle.runtime.timings NOTEBOOK...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .files import MedcapError, cli_errors


def seconds(path: str | Path) -> float:
    """How long the notebook took. MedcapError where papermill has not run it to its end."""
    try:
        return float(json.loads(Path(path).read_text("utf-8"))["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MedcapError(f"{path} is not the output of papermill ({error!r}): run it with make") from error


def table(paths: Sequence[str | Path]) -> str:
    """A line a notebook, in minutes and seconds, with its share; and the sum."""
    rows = [(Path(path).stem, seconds(path)) for path in paths]
    total = sum(own for _, own in rows)
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {_clock(own)}  {own / total:4.0%}" for name, own in rows]
    return "\n".join([*lines, f"{'together':{width}}  {_clock(total)}"])


def _clock(seconds: float) -> str:
    return "{:3} min {:2} s".format(*divmod(round(seconds), 60))


def main() -> None:
    with cli_errors():
        if not sys.argv[1:]:
            raise MedcapError("no notebook is given: python -m medcap_paddle.runtime.timings NOTEBOOK...")
        print(table(sys.argv[1:]))


if __name__ == "__main__":
    main()
