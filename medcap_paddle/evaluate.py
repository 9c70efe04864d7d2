"""Metrics of predictions: any predictions.csv, ours or made elsewhere. `metrics.METRICS` lists them.

Reads predictions.csv (`study_id, reference, prediction`; `generate` writes more) and writes metrics.json beside it:

    {"split", "protocol", "studies", "notes",
     "figures": {metric: {"value", "low", "high", "protocol", "p"}},
     "strata": {stratum: {"studies", "figures"}},
     "classes": {observation: {"precision", "recall", "f1", "positives"}}}

An undefined "value" (CIDEr where all references are the same, F1 without any positive) is null, in tables a dash, and a
note says why. "low" and "high" are a 95% bootstrap interval over studies (see `metrics.bootstrap`). "p" is two-sided,
of the difference to the reference run on the same resamples. CIDEr and ROUGE-L resample the scores of the studies, and
CIDEr keeps the document frequencies of the full set; BLEU, perplexity and the clinical metrics are computed anew from
the counts of each resample. Runs named <run>, <run>_seed1, <run>_seed2 ... differ only in the seed of their training;
they get a row for their mean.

    python -m medcap_paddle.evaluate predictions.csv [more.csv ...] [--train reports.csv] [--labels labels.csv]
        [--protocol r2gen] [--against FILE] [--json out.json] [--readers readers.sqlite]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import vocab as vocabulary
from .clinical import labels as given_labels
from .clinical.labels import OBSERVATIONS, knowledge  # noqa: F401
from .config import ReportSettings
from .metrics import BUILT_IN, METRICS, readers
from .metrics.comparison import RESAMPLES, evaluate  # noqa: F401  (the number of resamples belongs to the table)
from .metrics.pairs import PROTOCOLS, prepare, read_predictions, read_train  # noqa: F401
from .metrics.table import by_stratum, compare, provenance, report  # noqa: F401
from .runtime import cache
from .runtime.files import MedcapError, cli_errors, digest, lock, read_json, shown, write_json

if TYPE_CHECKING:
    import pandas as pd

_ROOM = Path(__file__).parent
_CODE = [_ROOM / "text.py", _ROOM / "evaluate.py", *sorted([*_ROOM.glob("metrics/*.py"), *_ROOM.glob("clinical/*.py")])]
RULES = digest(*(path.read_bytes() for path in _CODE))  # results of an older version are not kept


def evaluate_runs(
    runs_dir: str | Path,
    tables: dict[str, pd.DataFrame],
    vocab: Iterable[str] | None = None,
    train: Iterable[str] = (),
    split: str = "",
) -> dict[str, dict]:
    """`evaluate`, written by `write_runs` and whole to runs/metrics.json.

    Not repeated while predictions, vocabulary, train reports, split, labels.json and the code are the same. Repeated
    after a metric failed, and with a metric from outside the package, whose code may have changed.
    """
    whole, single = Path(runs_dir) / "metrics.json", [Path(runs_dir) / name / "metrics.json" for name in tables]
    vocab, train = set(vocab) if vocab else None, set(train)
    missing = [reason for metric in METRICS.values() if (reason := metric.missing())]
    known = {*missing, *(metric.undefined for metric in METRICS.values())}  # other notes are of failures
    texts = {name: table.astype(str).to_dict("list") for name, table in tables.items()}
    inputs = digest(RULES, knowledge(), texts, list(texts), vocab and sorted(vocab), sorted(train), split, missing)
    if METRICS == BUILT_IN and cache.is_current(whole, inputs, *single):
        return read_json(whole, "run 06_evaluate.ipynb")
    metrics = evaluate(tables, vocab=vocab, train=train, split=split)
    with lock(whole):
        write_runs(runs_dir, metrics)
        write_json(whole, metrics)
        if METRICS == BUILT_IN and all(set(content.get("notes", [])) <= known for content in metrics.values()):
            cache.mark_done(whole, inputs, *single)
    return metrics


def write_runs(runs_dir: str | Path, metrics: dict[str, dict]) -> None:
    """runs/<run>/metrics.json of every run."""
    for name, content in metrics.items():
        if "seeds" not in content:  # a mean over seeds is not a run
            write_json(Path(runs_dir) / name / "metrics.json", content)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="medcap_paddle.evaluate", description="Metrics of any predictions.csv.")
    parser.add_argument("predictions", nargs="*", help="study_id, reference, prediction; each file is a row")
    parser.add_argument("--train", help="reports.csv with a train split: for <unk>, and the strata seen and novel")
    parser.add_argument("--labels", help="study_id and the 14 CheXpert columns, in place of our labels of references")
    parser.add_argument("--protocol", default="r2gen", choices=PROTOCOLS)
    parser.add_argument("--against", help="the file that the others are tested against (default: the first)")
    parser.add_argument("--json", help="write everything to this file")
    parser.add_argument("--readers", help="a reader study (make demo): alone, or beside the metrics of its runs")
    options = parser.parse_args(arguments)
    if not options.predictions and not options.readers:
        parser.error("give a predictions.csv, or --readers")
    with cli_errors():
        if options.readers:
            print(readers.report(options.readers), end="\n\n")
        if not options.predictions:
            return
        tables = {shown(path): read_predictions(path) for path in options.predictions}
        train = read_train(options.train) if options.train else []
        vocab = vocabulary.build(train, ReportSettings().min_freq) if options.train else None
        labels = given_labels.read(options.labels) if options.labels else None
        reference_run = shown(options.against or options.predictions[0])
        if reference_run not in tables:
            raise MedcapError(f"--against {reference_run} is not among the files: give it as a file too")
        metrics = evaluate(tables, options.protocol, vocab, train, labels, reference_run)
        if options.json:
            write_json(options.json, metrics)
        no_unk = "Without --train no rare word of a reference becomes <unk>, as the protocol asks for."
        remarks = [no_unk] if vocab is None and PROTOCOLS[options.protocol].unk else []
        print(report(metrics, *remarks, study=options.readers))


if __name__ == "__main__":
    main()
