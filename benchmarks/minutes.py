"""Quality against minutes: what each run of a WORK folder reached, and how long it was trained.

    python benchmarks/minutes.py WORK PICTURE.png [--peer NAME MINUTES PREDICTIONS.csv]...

Minutes are the sum of `seconds` in history.csv, of the teacher and of the reward; `<run>_completed` and its like have
those of the run. Runs that learn nothing have none and stand on the left. A peer is another system on the same studies:
its predictions, as study_id and prediction, are measured here, as ours are. Prints a table, and how many times as fast
our quickest run is that has at least the peer's CIDEr on novel reports.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import pandas as pd

from medcap_paddle import evaluate
from medcap_paddle import vocab as vocabulary
from medcap_paddle.drawing.axes import BLUE, GRAY, GREEN, axes
from medcap_paddle.knowledge.systems import spent
from medcap_paddle.runtime.files import MedcapError, cli_errors, read_json, read_table

FIGURES = ["cider_novel", "cider", "bleu4", "clinical_macro_f1"]
FIX = "run 34_table.ipynb"
LEFT = 0.5  # minutes at which runs are drawn that learn nothing


def ours(work: Path) -> pd.DataFrame:
    """Minutes and figures of the runs that have been measured whole; MedcapError where none has."""
    rows, trained = {}, {path.parent.name: spent(path.parent) for path in work.glob("runs/*/config.json")}
    for path in sorted(work.glob("runs/*/metrics.json")):
        figures = read_json(path, FIX)["figures"]
        if not figures.keys() >= {*FIGURES}:
            print(f"{path} lacks figures: left out")
            continue
        name = path.parent.name  # knowledge_completed is written by knowledge
        owners = [run for run in trained if f"{name}_".startswith(f"{run}_")]
        minutes = trained[max(owners, key=len)] if owners else 0.0
        rows[name] = {"minutes": minutes} | {figure: figures[figure]["value"] for figure in FIGURES}
    if not rows:
        raise MedcapError(f"{work} has no run that was measured: {FIX}")
    return pd.DataFrame(rows).T


def theirs(work: Path, split: str, path: str) -> dict[str, float]:
    """The figures of a peer."""
    reports = read_table(work / "reports.csv", ["study_id", "split", "report"], "run 01_reports.ipynb")
    table = read_table(path, ["study_id", "prediction"], "give the peer's predictions")[["study_id", "prediction"]]
    table = reports[reports.split == split].merge(table, "left", "study_id").rename(columns={"report": "reference"})
    if missing := list(table.study_id[table.prediction.isna()]):
        raise MedcapError(
            f"{path} has no prediction for {len(missing)} studies of {split}, {missing[0]} is one: add them"
        )
    words = set(vocabulary.tokens(vocabulary.load(work / "vocab.json")))
    train = list(reports.report[reports.split == "train"])
    found = evaluate.evaluate({"peer": table}, vocab=words, train=train, split=split)["peer"]["figures"]
    return {name: found[name]["value"] for name in FIGURES}


def picture(table: pd.DataFrame, peers: set[str], path: str) -> None:
    figure, [[ax]] = axes(7, 4.5)
    for name, row in table.iterrows():
        learnt, peer = row.minutes > 0, name in peers
        ax.scatter(max(row.minutes, LEFT), row.cider_novel, color=GREEN if peer else BLUE if learnt else GRAY, s=20)
        ax.annotate(name, (max(row.minutes, LEFT), row.cider_novel), (4, 2), textcoords="offset points", fontsize=7)
    ax.set_xscale("log")
    ax.set_xlabel("minutes of training (log); gray: nothing is learnt")
    ax.set_ylabel("CIDEr, novel reports")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality against minutes of training.")
    parser.add_argument("work", type=Path)
    parser.add_argument("picture")
    parser.add_argument("--split", default="val")
    parser.add_argument("--runs", nargs="*", help="of these only")
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "MINUTES", "PREDICTIONS.csv"))
    arguments = parser.parse_args()
    with cli_errors():
        table = ours(arguments.work)
        if unknown := sorted(set(arguments.runs or []) - set(table.index)):
            raise MedcapError(f"{arguments.work} has no metrics of {unknown[0]}: {FIX}")
        table = table.loc[arguments.runs] if arguments.runs else table
        for name, minutes, path in arguments.peer:
            table.loc[name] = {"minutes": float(minutes)} | theirs(arguments.work, arguments.split, path)
        print(table.sort_values("cider_novel", ascending=False).round(3).to_string())
        for name, minutes, _ in arguments.peer:
            better = table[(table.cider_novel >= table.cider_novel[name]) & (table.minutes > 0) & (table.index != name)]
            if len(better):
                quickest = better.minutes.idxmin()
                ratio = float(minutes) / better.minutes[quickest]
                print(f"{quickest} reaches what {name} has {ratio:.1f} times as fast")
        picture(table, {name for name, *_ in arguments.peer}, arguments.picture)


if __name__ == "__main__":
    main()
