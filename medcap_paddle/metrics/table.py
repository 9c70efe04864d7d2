"""Tables of the metrics of several runs, from their metrics.json."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from . import HEADLINES, METRICS, readers

if TYPE_CHECKING:
    import pandas as pd

    from ..reports import Collection


def compare(metrics: dict[str, dict]) -> pd.DataFrame:
    """A row for each run; a column for each metric with a heading, those of `HEADLINES` with their 95% intervals.

    The best run is first, by the first of `HEADLINES` that any run has a value for. A dash stands where a run has no
    such metric, and where the metric is undefined.
    """
    import pandas as pd

    def cell(name: str, entry: dict | None) -> str:
        if entry is None or entry["value"] is None:
            return "-"
        interval = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry.get("low") is not None else " [-]"
        return f"{entry['value']:.{METRICS[name].digits}f}{interval if name in HEADLINES else ''}"

    def value_of(run: str, name: str) -> float | None:
        return metrics[run]["figures"].get(name, {}).get("value")

    first = next(iter(next(iter(metrics.values()))["figures"]))
    headline = next((name for name in HEADLINES if any(value_of(run, name) is not None for run in metrics)), first)

    def order(run: str) -> float:
        value = value_of(run, headline)
        return math.inf if value is None else -value

    columns = {name: metric.heading for name, metric in METRICS.items() if metric.heading}
    rows = {
        run: {heading: cell(name, metrics[run]["figures"].get(name)) for name, heading in columns.items()}
        for run in sorted(metrics, key=order)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def report(metrics: dict[str, dict], *remarks: str, study: str | Path | None = None) -> str:
    """What the command prints: both tables, between them the remarks and every note of a run once. The figures of a
    reader `study` stand beside the metrics.
    """
    whole = readers.beside(compare(metrics), study) if study else compare(metrics)
    strata = by_stratum(metrics).round(3).to_string(na_rep="-")
    notes = dict.fromkeys(note for content in metrics.values() for note in content.get("notes", []))
    return "\n\n".join([whole.to_string(), *remarks, *notes, f"{METRICS[HEADLINES[-1]].heading} by stratum\n{strata}"])


def by_stratum(metrics: dict[str, dict]) -> pd.DataFrame:
    """The last of `HEADLINES` of every run (rows) in every stratum (columns, with their number of studies).

    NaN where it is undefined.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            run: {
                f"{name} ({stratum['studies']})": stratum["figures"].get(HEADLINES[-1], {}).get("value")
                for name, stratum in content["strata"].items()
            }
            for run, content in metrics.items()
            if "strata" in content
        },
        dtype=float,
    ).T


def provenance(collection: Collection, features: dict, split: str) -> str:
    """What a table was made of: print it with every table.

    `features` are the attributes of features.h5: encoder, source, weights, precision.
    """
    phantom = "images DRAWN from findings, not real: no figure compares with published ones"
    phrased = "reports PHRASED from labels, not written by a radiologist: no figure compares with published ones"
    parts = (
        f"{collection.studies[split]:,} {split} studies (split {collection.split})",
        phrased if collection.reports == "phrased" else f"{collection.reports} reports",
        phantom if collection.images == "phantom" else "real images",
        f"features {features['encoder']} ({features['source']} {features['weights']}, {features['precision']})",
    )
    return "; ".join(parts)
