"""Tables of the metrics of several runs, from their metrics.json."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import HEADLINE, METRICS

if TYPE_CHECKING:
    import pandas as pd


def compare(metrics: dict[str, dict]) -> pd.DataFrame:
    """A row for each run, the best `HEADLINE` first, with its 95% interval; a column for each metric with a heading.

    A dash stands where a run has no such metric, and where the metric is undefined.
    """
    import pandas as pd

    def cell(name: str, entry: dict | None) -> str:
        if entry is None or entry["value"] is None:
            return "-"
        interval = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry.get("low") is not None else " [-]"
        return f"{entry['value']:.{METRICS[name].digits}f}{interval if name == HEADLINE else ''}"

    def order(run: str) -> float:
        entries = metrics[run]["figures"]
        value = entries.get(HEADLINE, next(iter(entries.values())))["value"]
        return math.inf if value is None else -value

    columns = {name: metric.heading for name, metric in METRICS.items() if metric.heading}
    rows = {
        run: {heading: cell(name, metrics[run]["figures"].get(name)) for name, heading in columns.items()}
        for run in sorted(metrics, key=order)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def report(metrics: dict[str, dict], *remarks: str) -> str:
    """What the command prints: both tables, between them the remarks and every note of a run once."""
    strata = by_stratum(metrics).round(3).to_string(na_rep="-")
    notes = dict.fromkeys(note for content in metrics.values() for note in content.get("notes", []))
    return "\n\n".join(
        [compare(metrics).to_string(), *remarks, *notes, f"{METRICS[HEADLINE].heading} by stratum\n{strata}"]
    )


def by_stratum(metrics: dict[str, dict]) -> pd.DataFrame:
    """The `HEADLINE` of every run (rows) in every stratum (columns, with their number of studies); NaN: undefined."""
    import pandas as pd

    return pd.DataFrame(
        {
            run: {
                f"{name} ({stratum['studies']})": stratum["figures"].get(HEADLINE, {}).get("value")
                for name, stratum in content["strata"].items()
            }
            for run, content in metrics.items()
            if "strata" in content
        },
        dtype=float,
    ).T
