"""Figures from predictions: any predictions.csv, ours or made elsewhere.

Reads predictions.csv (`study_id, reference, prediction`; ours also `nll, words`) and writes
metrics.json beside it:

    {"split", "protocol", "studies",
     "figures": {name: {"value", "low", "high", "protocol", "p"}},
     "strata": {name: {"studies", "figures"}},
     "classes": {observation: {"precision", "recall", "f1", "positives"}}}

Runs named <run>, <run>_seed1, <run>_seed2 ... differ in the seed of their training only; they get a row for their mean.

Every figure is made of numbers kept per study (n-gram counts, ROUGE-L, CIDEr, nll, labels), so a bootstrap resample is
a weighting of studies and costs one matrix product. CIDEr and ROUGE-L resample the scores of the studies; CIDEr's
document frequencies stay those of the full set. BLEU, perplexity and the clinical figures are computed anew from the
summed counts of each resample. `p` is two-sided, from the same resamples for both runs (paired bootstrap).

Protocols (what is done to references and predictions before they are compared):

    r2gen     cleaned as R2Gen does, cut to 59 words; words of the reference outside the vocabulary become <unk>
    full      cleaned the same way, neither cut nor <unk>
    original  letters only, mean unsmoothed sentence BLEU: what the AI Studio notebook reported. For the record

    python -m medcap_paddle.evaluate predictions.csv [more.csv ...] [--train reports.csv] [--labels labels.csv]
        [--protocol r2gen] [--against NAME] [--json out.json]
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import subprocess
import tempfile
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import MedcapError, alone, digest, plain_ending, read_json, read_table, write_json
from .labels import OBSERVATIONS, averages, counts, knowledge, label, scores
from .reports import clean
from .resume import finished, unchanged

if TYPE_CHECKING:
    import pandas as pd

PROTOCOLS = ("r2gen", "full", "original")
MAX_WORDS = 59  # R2Gen's 60 ids less the begin token
RESAMPLES = 2000
SIGMA = 6.0  # width of CIDEr's length penalty
METEOR_SECONDS = 120
METEOR_COUNTS = 23
# The code that makes the figures, as it was loaded: a newer version does not keep an older one's.
RULES = digest(*(Path(__file__).with_name(name).read_bytes() for name in ("reports.py", "labels.py", "evaluate.py")))


# Input ----------------------------------------------------------------------------------------------------------------


def read_predictions(path: str | Path) -> pd.DataFrame:
    """A table with a row per study; MedcapError on missing columns, no rows, empty or repeated study ids, or an nll
    (-log p of a reference) or number of words that is none.
    """
    import pandas as pd

    remedy = "write columns study_id, reference, prediction with a row per study (05_generate.ipynb does)"
    table = read_table(path, ["study_id", "reference", "prediction"], remedy)
    if table.empty:
        raise MedcapError(f"{path} has no predictions: {remedy}")
    if (table.study_id == "").any():
        raise MedcapError(f"{path}, row {(table.study_id == '').argmax() + 2}, has no study_id: {remedy}")
    repeated = table.study_id[table.study_id.duplicated()]
    if len(repeated):
        raise MedcapError(f"{path} has {repeated.iloc[0]} more than once: {remedy}")
    for name in {"nll", "words"} & set(table.columns):
        number = pd.to_numeric(table[name], errors="coerce")
        wrong = table.study_id[~np.isfinite(number) | (number < (name == "words"))]
        if len(wrong):
            raise MedcapError(f"{path} has no usable {name} for {wrong.iloc[0]}: mend it or leave the column out")
    return table


def prepare(table: pd.DataFrame, protocol: str = "r2gen", vocab: Container[str] | None = None) -> tuple[list, list]:
    """References and predictions as the protocol compares them; without `vocab` no word becomes <unk>."""
    if protocol not in PROTOCOLS:
        raise MedcapError(f"protocol is {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    references, predictions = _words(table, "original" if protocol == "original" else "r2gen")
    empty = [study for study, words in zip(table.study_id, references, strict=True) if not words]
    if empty:
        raise MedcapError(f"the reference of {empty[0]} is empty after cleaning: leave that study out")
    if protocol == "r2gen":
        references, predictions = ([words[:MAX_WORDS] for words in texts] for texts in (references, predictions))
        if vocab is not None:  # it need not have the full stop, which cleaning adds
            references = [[word if word in vocab or word == "." else "<unk>" for word in words] for words in references]
            predictions = [["<unk>" if word == "unk" else word for word in words] for words in predictions]
    return [" ".join(words) for words in references], [" ".join(words) for words in predictions]


def _words(table: pd.DataFrame, rules: str) -> tuple[list[list[str]], list[list[str]]]:
    """The cleaned words of references and predictions."""
    references, predictions = ([clean(text, rules).split() for text in table[n]] for n in ("reference", "prediction"))
    return references, predictions


# Per study ------------------------------------------------------------------------------------------------------------


def statistics(references: list[str], predictions: list[str]) -> dict[str, np.ndarray]:
    """Per study: `bleu` [n, 10] (correct 1-4, guessed 1-4, both lengths), `rouge_l` [n], `cider` [n].

    pycocoevalcap's scorers without its PTB tokenizer, since the text is tokenized already.
    """
    from pycocoevalcap.rouge.rouge import Rouge

    rouge, pairs = Rouge(), list(zip(references, predictions, strict=True))
    return {
        "bleu": bleu_counts(references, predictions),
        "rouge_l": np.array([rouge.calc_score([prediction], [reference]) for reference, prediction in pairs]),
        "cider": cider(references, predictions),
    }


def bleu_counts(references: list[str], predictions: list[str]) -> np.ndarray:
    """What `bleu` is made of, per study [n, 10]."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    rows = []
    for reference, prediction in zip(references, predictions, strict=True):
        counted = cook_test(prediction, cook_refs([reference]), eff="closest")
        rows.append([*counted["correct"], *counted["guess"], counted["testlen"], counted["reflen"]])
    return np.array(rows, float)


def rarity(references: list[str]) -> tuple[dict[tuple[str, ...], float], float]:
    """log of the number of `references` over those with an n-gram, of each n-gram; and of one that none has."""
    frequency = Counter(gram for text in references for gram in set(ngrams(text)))
    most = math.log(len(references))
    return {gram: most - math.log(n) for gram, n in frequency.items()}, most


def cider(
    references: list[str], predictions: list[str], rare: tuple[dict[tuple[str, ...], float], float] | None = None
) -> np.ndarray:
    """CIDEr of each study [n] (Vedantam et al., CVPR 2015, as pycocoevalcap computes it, to rounding).

    `rare` is the `rarity` of n-grams in other texts than these references. Ours because the library holds the n-grams
    of all studies at once: gigabytes for 100,000 reports.
    """
    idf, most = rare or rarity(references)
    scored = np.zeros([len(references), 4])
    for i, pair in enumerate(zip(references, predictions, strict=True)):
        theirs, ours = ({g: n * idf.get(g, most) for g, n in ngrams(text).items()} for text in pair)
        product, norms = np.zeros(4), np.zeros([2, 4])
        for gram, weight in ours.items():
            other = theirs.get(gram, 0.0)
            product[len(gram) - 1] += min(weight, other) * other
        for row, vector in zip(norms, (theirs, ours), strict=True):
            for gram, weight in vector.items():
                row[len(gram) - 1] += weight**2
        norm = np.sqrt(norms.prod(0))
        # the library measures length in bigrams
        reference, prediction = (max(len(text.split()) - 1, 0) for text in pair)
        penalty = np.exp(-((prediction - reference) ** 2) / (2 * SIGMA**2))
        scored[i] = np.divide(product, norm, out=np.zeros(4), where=norm > 0) * penalty
    return 10 * scored.mean(1)


def ngrams(text: str) -> Counter:
    """Counts of the 1- to 4-grams of a text."""
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def sentence_bleu(references: list[list[str]], predictions: list[list[str]]) -> np.ndarray:
    """nltk's BLEU-4 of each study [n] from its words, unsmoothed: 0 wherever no 4-gram matches."""
    from nltk.translate.bleu_score import sentence_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk warns of every such 0
        return np.array([sentence_bleu([r], p) for r, p in zip(references, predictions, strict=True)])


def meteor(references: list[str], predictions: list[str]) -> tuple[np.ndarray | None, str]:
    """What `meteor_score` is made of, per study [n, 23], or None and the reason: METEOR needs java and two minutes."""
    from pycocoevalcap.meteor import meteor as library

    if not shutil.which("java"):
        return None, "METEOR needs java"
    jar = Path(library.__file__).with_name("meteor-1.5.jar")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("predictions", "references")]
        for file, texts in zip(files, (predictions, references), strict=True):
            file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = ["java", "-Xmx2G", "-jar", str(jar), *map(str, files), "-l", "en", "-norm", "-ssOut"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=METEOR_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return None, f"METEOR failed ({type(error).__name__})"
    counted = [line.split() for line in done.stdout.splitlines()]
    if len(counted) != len(references) or any(len(row) != METEOR_COUNTS for row in counted):
        return None, "METEOR gave no counts for some studies"
    counted = np.array(counted, float)
    whole = (counted[:, 20] == 1) & (counted[:, 21:] == counted[:, :2]).all(1)
    counted[whole, 20] = 0  # the jar counts no chunk where prediction and reference agree in every word
    return counted, ""


def per_study(
    table: pd.DataFrame, pair: tuple[list, list], protocol: str, reference_labels: np.ndarray
) -> dict[str, np.ndarray]:
    """All numbers per study that figures are made of, but METEOR; `pair` is what `prepare` made of the table."""
    record = {"sentence_bleu": sentence_bleu(*_words(table, "original"))}
    if protocol == "original":
        return record
    stats = statistics(*pair) | record
    stats["clinical"] = np.stack(counts(reference_labels, label(table.prediction)), 1)  # [n, 3, 14]
    if {"nll", "words"} <= set(table.columns):
        stats["nll"], stats["words"] = (table[name].astype(float).to_numpy() for name in ("nll", "words"))
    return stats


# Figures --------------------------------------------------------------------------------------------------------------


def bleu(counted: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1..4 [..., 4] from summed counts [..., 10] (Papineni et al. 2002), with pycocoevalcap's constants."""
    correct, guess, length, reference = counted[..., :4], counted[..., 4:8], counted[..., 8], counted[..., 9]
    precision = (correct + 1e-15) / (guess + 1e-9)
    mean = np.exp(np.cumsum(np.log(precision), -1) / np.arange(1, 5))
    ratio = (length + 1e-15) / (reference + 1e-9)
    return mean * np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)[..., None]


def meteor_score(counted: np.ndarray) -> np.ndarray:
    """Corpus METEOR [...] from summed counts [..., 23] (Denkowski and Lavie, WMT 2014; its English constants): words of
    prediction and reference, function words of both; matches of four kinds (exact, stem, synonym, paraphrase), each as
    content words of both and function words of both; chunks; words matched in both.
    """
    words, function, chunks = counted[..., :2], counted[..., 2:4], counted[..., 20]
    matches = counted[..., 4:20].reshape([*counted.shape[:-1], 4, 2, 2])  # kind, content or function, which text
    matched = np.einsum("...kct,k,c->...t", matches, [1.0, 0.6, 0.8, 0.6], [0.75, 0.25])
    share = matched / np.maximum(0.75 * (words - function) + 0.25 * function, 1e-9)  # precision and recall
    precision, recall = share[..., 0], share[..., 1]
    mean = precision * recall / np.maximum(0.85 * precision + 0.15 * recall, 1e-9)
    return mean * (1 - 0.6 * (chunks / np.maximum(counted[..., 21:].mean(-1), 1e-9)) ** 0.2)


def figures(stats: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each figure for each row of `weights` [R, n], how often a study counts: one row of ones is the corpus."""
    total = weights.sum(1)
    out = {}
    if "bleu" in stats:
        out |= dict(zip(("bleu1", "bleu2", "bleu3", "bleu4"), bleu(weights @ stats["bleu"]).T, strict=True))
    if "meteor" in stats:
        out["meteor"] = meteor_score(weights @ stats["meteor"])
    for name in ("rouge_l", "cider", "sentence_bleu"):
        if name in stats:
            out[name] = weights @ stats[name] / total
    if "nll" in stats:
        out["perplexity"] = np.exp(weights @ stats["nll"] / (weights @ stats["words"]))
    if "clinical" in stats:
        n = stats["clinical"].shape[0]
        summed = (weights @ stats["clinical"].reshape(n, -1)).reshape(-1, 3, len(OBSERVATIONS))
        out |= {f"clinical_{k}": v for k, v in averages(*summed[:, :, :-1].transpose(1, 0, 2)).items()}
        out["no_finding_f1"] = scores(*summed[:, :, -1].T)["f1"]
    return out


def degeneration(references: list[str], predictions: list[str]) -> dict[str, float]:
    """Signs of a model that writes the same for everybody, or itself again. Without intervals: a resample holds some
    studies twice, and so fewer different reports.
    """
    lengths, true_lengths = ([len(text.split()) for text in texts] for texts in (predictions, references))
    repeated = trigrams = 0
    for words in map(str.split, predictions):
        found = list(zip(words, words[1:], words[2:], strict=False))
        repeated, trigrams = repeated + len(found) - len(set(found)), trigrams + len(found)
    return {
        "different_reports": len(set(predictions)),
        "different_share": len(set(predictions)) / len(predictions),
        "most_frequent_share": max(Counter(predictions).values()) / len(predictions),
        "length_ratio": sum(lengths) / sum(true_lengths),
        "repeated_trigrams": repeated / max(trigrams, 1),
        "words_used": len({word for text in predictions for word in text.split()}),
        "words_in_references": len({word for text in references for word in text.split()}),
    }


def resamples(studies: int, number: int) -> Iterator[np.ndarray]:
    """`number` bootstrap weightings [r, studies] in blocks of bounded memory; the same for every run of a table."""
    rng = np.random.default_rng(0)
    block = max(1, 2_000_000 // studies)
    for start in range(0, number, block):
        size = min(block, number - start)
        drawn = rng.integers(0, studies, [size, studies]) + studies * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * studies).reshape(size, studies).astype("float32")


def interval(stats: dict[str, np.ndarray], number: int) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """{"value", "low", "high"} of each figure, 95% by percentiles, and the resampled values [number] themselves."""
    n = len(next(iter(stats.values())))
    drawn = [figures(stats, weights) for weights in resamples(n, number)]
    spread = {name: np.concatenate([d[name] for d in drawn]) for name in drawn[0]}
    value = figures(stats, np.ones([1, n]))
    low, high = ({name: np.percentile(v, q) for name, v in spread.items()} for q in (2.5, 97.5))
    return {
        name: {"value": float(value[name][0]), "low": float(low[name]), "high": float(high[name])} for name in value
    }, spread


# Runs -----------------------------------------------------------------------------------------------------------------


def evaluate(
    tables: dict[str, pd.DataFrame],
    protocol: str = "r2gen",
    vocab: Container[str] | None = None,
    train: Iterable[str] = (),
    labels: pd.DataFrame | None = None,
    against: str = "constant",
    split: str = "",
    number: int = RESAMPLES,
) -> dict[str, dict]:
    """metrics.json of each run. All runs must hold the same studies with the same references.

    `train` are train reports: with them references are also split into those seen verbatim and novel ones.
    `labels` (study_id and the 14 observations) replaces our labels of the references. `against` names the run that
    the others are tested against. MedcapError on runs of different studies.
    """
    first = next(iter(tables))
    tables = {name: _aligned(tables[first], table, first, name) for name, table in tables.items()}
    references = tables[first]
    truth = label(references.reference) if labels is None else _given_labels(references.study_id, labels)
    strata = {"normal": truth[:, -1] == 1, "abnormal": truth[:, -1] == 0}
    if known := {clean(text) for text in train}:
        seen = np.array([clean(text) in known for text in references.reference])
        strata |= {"seen in train": seen, "novel": ~seen}
    pairs = {name: prepare(table, protocol, vocab) for name, table in tables.items()}
    all_stats = {name: per_study(table, pairs[name], protocol, truth) for name, table in tables.items()}
    notes = []
    if protocol != "original":  # one Java machine for all runs
        counted, reason = meteor(*(list(chain(*side)) for side in zip(*pairs.values(), strict=True)))
        notes = [reason] if reason else []
        for stats, part in zip(
            all_stats.values(), [] if counted is None else np.split(counted, len(tables)), strict=False
        ):
            stats["meteor"] = part
    out, spreads = {}, {}
    for name, table in tables.items():
        stats = all_stats[name]
        values, spreads[name] = interval(stats, number)
        for figure, entry in values.items():
            entry["protocol"] = "original" if figure == "sentence_bleu" else protocol
        if protocol != "original":
            plain = degeneration(*pairs[name])
            values |= {k: {"value": v, "protocol": protocol} for k, v in plain.items()}
        out[name] = {"split": split, "protocol": protocol, "studies": len(table), "figures": values, "notes": notes}
        out[name]["strata"] = {
            stratum: {"studies": int(mask.sum()), "figures": interval(_rows(stats, mask), number)[0]}
            for stratum, mask in strata.items()
            if mask.any()
        }
        if "clinical" in stats:
            tp, fp, fn = stats["clinical"].sum(0)
            columns = scores(tp, fp, fn) | {"positives": tp + fn}
            out[name]["classes"] = {o: {k: float(v[i]) for k, v in columns.items()} for i, o in enumerate(OBSERVATIONS)}
    for name, seeds in _seeds(tables).items():
        mean, spreads[name] = _over_seeds([out[seed]["figures"] for seed in seeds], [spreads[seed] for seed in seeds])
        out[name] = {"split": split, "protocol": protocol, "studies": len(references), "seeds": seeds, "figures": mean}
    for name in set(out) - {against} if against in out else ():
        for figure, spread in spreads[name].items():
            if figure in spreads[against]:
                difference = spread - spreads[against][figure]
                p = 2 * min((difference <= 0).mean(), (difference >= 0).mean())
                out[name]["figures"][figure]["p"] = float(min(1.0, max(p, 1 / number)))
    return out


def _seeds(runs: Iterable[str]) -> dict[str, list[str]]:
    """Runs that differ in their seed only: {"lstm, mean of 3 seeds": ["lstm", "lstm_seed1", "lstm_seed2"]}."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(re.sub(r"_seed\d+$", "", run), []).append(run)
    return {f"{name}, mean of {len(seeds)} seeds": seeds for name, seeds in groups.items() if len(seeds) > 1}


def _over_seeds(figures: list[dict], spreads: list[dict[str, np.ndarray]]) -> tuple[dict, dict[str, np.ndarray]]:
    """Mean over seeds of each figure, with an interval over both studies and seeds, and its resampled values.

    Each resample of the studies also draws the seeds anew, as many as there are, with replacement.
    """
    count, number = len(spreads), len(next(iter(spreads[0].values())))
    drawn = np.random.default_rng(0).integers(0, count, [number, count])
    entries, out = {}, {}
    for name in (name for name in spreads[0] if all(name in spread for spread in spreads)):
        out[name] = np.stack([spread[name] for spread in spreads])[drawn, np.arange(number)[:, None]].mean(1)
        values = [entry[name]["value"] for entry in figures]
        low, high = np.percentile(out[name], (2.5, 97.5))
        entries[name] = {"value": float(np.mean(values)), "low": float(low), "high": float(high), "by_seed": values}
        entries[name]["protocol"] = figures[0][name]["protocol"]
    return entries, out


def _rows(stats: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[mask] for name, values in stats.items()}


def _aligned(expected: pd.DataFrame, table: pd.DataFrame, first: str, name: str) -> pd.DataFrame:
    """`table` in the order of `expected`; MedcapError where the two are not of the same studies."""
    table = table.set_index("study_id", drop=False)
    other = set(expected.study_id) ^ set(table.index)
    if other:
        raise MedcapError(f"{first} and {name} are not of the same studies ({len(other)} differ, such as {min(other)})")
    table = table.loc[expected.study_id]
    different = (table.reference.map(clean).to_numpy() != expected.reference.map(clean).to_numpy()).nonzero()[0]
    if len(different):
        raise MedcapError(f"{first} and {name} have different references for {table.study_id.iloc[different[0]]}")
    return table


def _given_labels(study_ids: pd.Series, labels: pd.DataFrame) -> np.ndarray:
    """The 14 labels [n, 14] of each study; ids are compared up to the first "_", as R2Gen's are longer."""
    rows = labels.set_index(labels.study_id.str.split("_").str[0])
    repeated = rows.index[rows.index.duplicated()]
    if len(repeated):
        raise MedcapError(f"the labels have {repeated[0]} more than once: leave one row for each study")
    wanted = study_ids.str.split("_").str[0]
    missing = wanted[~wanted.isin(rows.index)]
    if len(missing):
        raise MedcapError(f"the labels have no row for {missing.iloc[0]} ({len(missing)} studies): give all, or none")
    return rows.loc[wanted, list(OBSERVATIONS)].isin(["1", "1.0", "-1", "-1.0"]).to_numpy(np.int8)


def evaluate_runs(
    runs_dir: str | Path,
    tables: dict[str, pd.DataFrame],
    vocab: Iterable[str] | None = None,
    train: Iterable[str] = (),
    split: str = "",
) -> dict[str, dict]:
    """`evaluate`, written by `write_runs` and whole to runs/metrics.json; done again only when something changed."""
    from tqdm.auto import tqdm

    whole, single = Path(runs_dir) / "metrics.json", [Path(runs_dir) / name / "metrics.json" for name in tables]
    vocab, train, java = set(vocab) if vocab else None, set(train), bool(shutil.which("java"))
    texts = {name: table.astype(str).to_dict("list") for name, table in tables.items()}
    inputs = digest(RULES, knowledge(), texts, list(texts), vocab and sorted(vocab), sorted(train), split, java)
    if unchanged(whole, inputs, *single):
        tqdm.write(f"{whole} is up to date: nothing to do")
        return read_json(whole, "run 06_evaluate.ipynb")
    metrics = evaluate(tables, vocab=vocab, train=train, split=split)
    with alone(whole):
        write_runs(runs_dir, metrics)
        write_json(whole, metrics)
        if not java or all("meteor" in content["figures"] for content in metrics.values()):  # else it took too long
            finished(whole, inputs, *single)
    return metrics


def write_runs(runs_dir: str | Path, metrics: dict[str, dict]) -> None:
    """runs/<run>/metrics.json of every run."""
    for name, content in metrics.items():
        if "seeds" not in content:  # the mean over seeds is no run
            write_json(Path(runs_dir) / name / "metrics.json", content)


# Tables ---------------------------------------------------------------------------------------------------------------

HEADINGS = {
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "perplexity": "perplexity",
    "clinical_macro_f1": "clinical F1",
    "different_reports": "different",
    "sentence_bleu": "sentence BLEU",
}


def compare(metrics: dict[str, dict]) -> pd.DataFrame:
    """One row per run, best CIDEr first, CIDEr with its interval; a dash where a run has no such figure."""
    import pandas as pd

    def cell(name: str, entry: dict | None) -> str:
        if entry is None:
            return "-"
        if name == "different_reports":
            return f"{entry['value']:.0f}"
        spread = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if name == "cider" else ""
        return f"{entry['value']:.3f}{spread}"

    def order(run: str) -> float:
        entries = metrics[run]["figures"]
        return -(entries.get("cider") or entries["sentence_bleu"])["value"]

    rows = {
        run: {heading: cell(name, metrics[run]["figures"].get(name)) for name, heading in HEADINGS.items()}
        for run in sorted(metrics, key=order)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def by_stratum(metrics: dict[str, dict]) -> pd.DataFrame:
    """CIDEr of every run (rows) in every stratum (columns, with their number of studies)."""
    import pandas as pd

    return pd.DataFrame(
        {
            run: {f"{s} ({c['studies']})": c["figures"].get("cider", {}).get("value") for s, c in m["strata"].items()}
            for run, m in metrics.items()
            if "strata" in m
        }
    ).T


def provenance(collection: dict, features: dict, split: str) -> str:
    """What a table was made of, from collection.json and the attributes of features.h5: print it with every table."""
    drawn = collection["images"] == "phantom"
    return "; ".join(
        [
            f"{collection['studies'][split]:,} {split} studies (split {collection['split']})",
            f"{collection['reports']} reports",
            "images DRAWN from findings, not real: no figure compares with published ones" if drawn else "real images",
            f"features {features['encoder']} ({features['source']} {features['weights']}, {features['precision']})",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="medcap_paddle.evaluate", description="Figures of any predictions.csv.")
    parser.add_argument("predictions", nargs="+", help="study_id, reference, prediction; a row of the table each")
    parser.add_argument("--train", help="reports.csv with a train split: <unk> (3 times or more) and seen / novel")
    parser.add_argument("--labels", help="study_id and the 14 CheXpert columns, in place of our labels of references")
    parser.add_argument("--protocol", default="r2gen", choices=PROTOCOLS)
    parser.add_argument("--against", help="the file that the others are tested against (default: the first)")
    parser.add_argument("--json", help="write everything to this file")
    options = parser.parse_args(arguments)
    with plain_ending():
        tables = {path: read_predictions(path) for path in options.predictions}
        train, vocab, labels = [], None, None
        if options.train:
            reports = read_table(options.train, ["split", "report"], "give the reports.csv of 01_reports.ipynb")
            train = list(reports.report[reports.split == "train"])
            words = Counter(word for text in train for word in text.split())
            vocab = {word for word, n in words.items() if n >= 3}
        if options.labels:
            labels = read_table(options.labels, ["study_id", *OBSERVATIONS], "give a table of labels")
        against = options.against or options.predictions[0]
        if against not in tables:
            raise MedcapError(f"--against {against} is none of the files: give it among them too")
        metrics = evaluate(tables, options.protocol, vocab, train, labels, against)
    print(compare(metrics).to_string())
    if vocab is None and options.protocol == "r2gen":
        print("\nwithout --train no rare word of a reference becomes <unk>: this is r2gen's protocol but for that")
    for note in metrics[against]["notes"]:
        print(f"\n{note}")
    print("\nCIDEr by stratum\n" + by_stratum(metrics).round(3).to_string())
    if options.json:
        write_json(options.json, metrics)


if __name__ == "__main__":
    main()
