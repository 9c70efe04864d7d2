"""Tables of the metrics of several runs, from their metrics.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import HEADLINE, METRICS

if TYPE_CHECKING:
    import pandas as pd


def compare(metrics: dict[str, dict]) -> pd.DataFrame:
    """A row for each run, the best `HEADLINE` first, with its 95% interval; a column for each metric with a heading.

    A dash stands where a run has no such metric.
    """
    import pandas as pd

    def cell(name: str, entry: dict | None) -> str:
        if entry is None:
            return "-"
        interval = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if name == HEADLINE else ""
        return f"{entry['value']:.{METRICS[name].digits}f}{interval}"

    def order(run: str) -> float:
        entries = metrics[run]["figures"]
        return -entries.get(HEADLINE, next(iter(entries.values())))["value"]

    columns = {name: metric.heading for name, metric in METRICS.items() if metric.heading}
    rows = {
        run: {heading: cell(name, metrics[run]["figures"].get(name)) for name, heading in columns.items()}
        for run in sorted(metrics, key=order)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def by_stratum(metrics: dict[str, dict]) -> pd.DataFrame:
    """The `HEADLINE` of every run (rows) in every stratum (columns, with their number of studies)."""
    import pandas as pd

    return pd.DataFrame(
        {
            run: {
                f"{name} ({stratum['studies']})": stratum["figures"].get(HEADLINE, {}).get("value")
                for name, stratum in content["strata"].items()
            }
            for run, content in metrics.items()
            if "strata" in content
        }
    ).T
