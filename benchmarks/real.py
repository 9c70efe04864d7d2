"""What we read in real radiographs: `make real`, figures in WORK/figures.json.

    {"figures": {name: {"value", "low", "high"}}}

DATA holds nih_cxr/ (Data_Entry.csv, images/) and tb_cxr/ (labels.csv, images/). Low and high are a 95% bootstrap
interval over patients. Nothing is chosen here: train learns, and patients of val and test are looked at once.

    pneumonia_auc_probe       frozen EfficientNet-Lite0, linear probe, 5 folds by patient; Pneumonia against No Finding
    pneumonia_auc_tuned       the same network fine-tuned on train patients, on those of val and test
    tuberculosis_auc_tuned    fine-tuned once more on tb_cxr, on its val and test images; hospitals apart too
    caption_*                 a captioner on the fine-tuned vectors of nih_cxr, on test patients
    image_reliance            what the image adds to its words, in nats; _shuffled: what the image of another study adds
    lite0_vs_resnet101        images a second, from the PNGs of cxr_png/ where they are there: a ratio of turns
    typicality_*              see medcap_paddle.vision.typicality: how well strange images are told from unseen patients

    python benchmarks/real.py DATA WORK
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import pandas as pd
from PIL import Image

from medcap_paddle import baselines, dataset, encoder, feature_file, features, generate, phantom, reports, runs
from medcap_paddle import vocab as vocabulary
from medcap_paddle.clinical.labels import OBSERVATIONS
from medcap_paddle.clinical.targets import named
from medcap_paddle.config import RUN, choose
from medcap_paddle.metrics import by_class, observations
from medcap_paddle.metrics.bootstrap import spreads
from medcap_paddle.metrics.comparison import evaluate
from medcap_paddle.metrics.pairs import Pairs
from medcap_paddle.models import reliance
from medcap_paddle.runtime.files import cli_errors, read_table, require, write_json
from medcap_paddle.vision import probe, typicality
from medcap_paddle.vision.weights import read as read_weights

Figures = dict[str, dict[str, float]]
LITE0 = "efficientnet_lite0"
TRANSFERRED_EPOCHS = 12  # of the second fine-tuning: tb_cxr is small
FOLDS = 5
OTHERS = "its words, other images"
DRAWN = 800  # studies of the phantom


def command(module: str, *arguments: object) -> None:
    """A command of the package, as a user runs it."""
    subprocess.run([sys.executable, "-m", f"medcap_paddle.{module}", *map(str, arguments)], check=True)


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


class Vectors:
    """The features of a collection, a row an image (each is a study here), beside its table."""

    def __init__(self, work: Path, name: str, weights: Path | None = None, out: str = "features.h5"):
        images = read_table(work / "images.csv", ["image_id", "study_id", "view", "path"], "")
        table = read_table(work / "reports.csv", ["study_id", "split", "patient", "mesh"], "")
        reader = encoder.load(name, weights)
        names = [array for array in reader.arrays if array != "grid"]
        features.extract(images, encoder.load(name, weights, names), work / out)
        rows, self.arrays, _ = feature_file.read(work / out, names)
        self.table = images[images.image_id.isin(rows)].merge(table, on="study_id")
        self.arrays = {n: array[[rows[i] for i in self.table.image_id]] for n, array in self.arrays.items()}
        self.patient = np.where(self.table.patient == "", self.table.study_id, self.table.patient)
        self.labels = [named(mesh) for mesh in self.table.mesh]

    def rows(self, *splits: str) -> np.ndarray:
        return self.table.split.isin(splits).to_numpy()

    def has(self, label: str) -> np.ndarray:
        return np.array([label in labels for labels in self.labels])


# Findings -------------------------------------------------------------------------------------------------------------


def probed(frozen: Vectors, label: str) -> dict[str, float]:
    """A linear probe of a label against the normal, out of fold, patients apart."""
    from sklearn.model_selection import StratifiedGroupKFold

    asked = frozen.has(label) | frozen.has("normal")
    vectors, target, patient = frozen.arrays["pooled"][asked], frozen.has(label)[asked], frozen.patient[asked]
    scores = np.zeros(len(target))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(vectors, target, patient):
        weight, bias = probe.coefficients(vectors[train], target[train, None].astype(float), probe.WEAK)
        scores[test] = (vectors[test] @ weight + bias)[:, 0]
    return figure(*probe.auc_interval(scores, target, patient))


def tuned(vectors: Vectors, weights: Path, label: str, among: np.ndarray | bool = True) -> dict[str, float]:
    """The logit of a label, less that of the normal, on patients that it was not trained on."""
    asked = vectors.rows("val", "test") & (vectors.has(label) | vectors.has("normal")) & among
    places = [read_weights(weights)[1]["labels"].index(name) for name in (label, "normal")]
    scores = vectors.arrays["logits"][asked][:, places] @ [1, -1]
    return figure(*probe.auc_interval(scores, vectors.has(label)[asked], vectors.patient[asked]))


def finding_figures(data: Path, work: Path) -> Figures:
    nih, tb = work / "nih", work / "tb"
    reports.build(data / "nih_cxr", nih)
    reports.build(data / "tb_cxr", tb)
    command("encoder", "--work", nih, "--start", LITE0)
    command("encoder", "--work", tb, "--start", nih / "encoder.safetensors", "--epochs", TRANSFERRED_EPOCHS)
    chest = Vectors(nih, LITE0, nih / "encoder.safetensors", "tuned.h5")
    lungs = Vectors(tb, LITE0, tb / "encoder.safetensors", "tuned.h5")
    chinese = lungs.table.image_id.str.startswith("CHN").to_numpy()
    tuberculosis = {"": True, "_shenzhen": chinese, "_montgomery": ~chinese}
    return {
        "pneumonia_auc_probe": probed(Vectors(nih, LITE0), "pneumonia"),
        "tuberculosis_auc_probe": probed(Vectors(tb, LITE0), "tuberculosis"),
        "pneumonia_auc_tuned": tuned(chest, nih / "encoder.safetensors", "pneumonia"),
        **{
            f"tuberculosis_auc_tuned{place}": tuned(lungs, tb / "encoder.safetensors", "tuberculosis", among)
            for place, among in tuberculosis.items()
        },
    }


# Reports --------------------------------------------------------------------------------------------------------------


def caption_figures(data: Path, work: Path) -> Figures:
    """A run as 01 to 06 make it, on the fine-tuned vectors, against itself with shuffled images."""
    here = work / "captions"
    reports.build(data / "nih_cxr", here)
    command("features", here, "--encoder", LITE0, "--weights", work / "nih" / "encoder.safetensors")
    config = choose(reports="phrased")
    table = read_table(here / "reports.csv", ["split", "report"], "")
    vocab = vocabulary.make(table.report[table.split == "train"], config.reports.min_freq, here / "vocab.json")
    command("train", here)
    if config.reward.epochs:
        command("reward", here)
    run = runs.load(here / "runs" / RUN)
    test = dataset.load(here, "test", vocab, run.config, run.features)
    tables = {}
    for name, seen in {RUN: test, "shuffled": baselines.shuffled(test)}.items():
        out = here / "runs" / name / "predictions.csv"
        tables[name] = generate.predict(run.model, vocab, seen, run.config, out=out, known=run.known)
    others = baselines.shuffled(test).batch(range(len(test))).inputs
    words = list(tables[RUN].prediction)
    tables[OTHERS] = tables[RUN].assign(**reliance.sums(run.model, vocab, others, run.mean, words))
    metrics = evaluate(tables, vocab={*table.report.str.split().explode()}, reference_run="shuffled", split="test")
    asked = {"caption_cider": (RUN, "cider"), "caption_cider_shuffled": ("shuffled", "cider")}
    asked |= {"image_reliance": (RUN, "image_reliance"), "image_reliance_shuffled": (OTHERS, "image_reliance")}
    entries = {name: metrics[row]["figures"][metric] for name, (row, metric) in asked.items()}
    figures = {name: figure(entry["value"], entry["low"], entry["high"]) for name, entry in entries.items()}
    figures["caption_cider"]["p"] = entries["caption_cider"]["p"]
    return figures | {"caption_pneumonia_f1": class_f1(tables[RUN], "Pneumonia", test.patients)}


def class_f1(table: pd.DataFrame, observation: str, patients: list[str]) -> dict[str, float]:
    """F1 of an observation in the predictions against that in the references, which were phrased from the labels."""
    from medcap_paddle.clinical.labels import label

    texts = list(table.reference), list(table.prediction)
    counts = observations(Pairs(table, *texts, label(table.reference)))
    own = by_class(counts)[..., OBSERVATIONS.index(observation)].T  # [n, 3]: true and false positives, false negatives
    by_patient = pd.DataFrame(own).groupby(np.asarray(patients)).sum().to_numpy()

    def f1(summed: np.ndarray) -> np.ndarray:
        return 2 * summed[..., 0] / (2 * summed[..., 0] + summed[..., 1] + summed[..., 2])

    entry = spreads({"f1": by_patient}, {"f1": f1}, 2000)["f1"].as_json()
    return figure(entry["value"], entry["low"], entry["high"])


# Strange images -------------------------------------------------------------------------------------------------------


def told_apart(known: typicality.Typicality, usual: np.ndarray, patients: np.ndarray, strange: np.ndarray) -> dict:
    """The AUROC of the percentile, unseen images of the run's kind against strange ones."""
    scores = np.concatenate([known.percentile(usual), known.percentile(strange)])
    target = np.repeat([0, 1], [len(usual), len(strange)])
    return figure(*probe.auc_interval(scores, target, [*patients, *(f"strange {k}" for k in range(len(strange)))]))


def photographs(folder: Path, count: int = 60) -> list[Path]:
    """Square crops of scikit-learn's photographs and of a portrait of matplotlib's, in gray."""
    import matplotlib.cbook
    from sklearn.datasets import load_sample_image

    portrait = np.asarray(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")))
    pictures = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), portrait]
    rng, paths = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        gray = Image.fromarray(pictures[k % len(pictures)]).convert("L")
        side = int(rng.uniform(0.5, 1) * min(gray.size))
        x, y = (int(rng.integers(0, length - side + 1)) for length in gray.size)
        paths.append(folder / f"{k}.png")
        gray.crop((x, y, x + side, y + side)).save(paths[-1])
    return paths


def typicality_figures(data: Path, work: Path) -> Figures:
    from medcap_paddle import image

    drawn = work / "drawn"
    reports.build(phantom.make(drawn / "phantom", studies=DRAWN, seed=1), drawn)
    small = encoder.load("small", arrays=["pooled"])
    lite0 = encoder.load(LITE0, arrays=["pooled"])
    sketches, films = Vectors(drawn, "small"), Vectors(work / "nih", LITE0)
    of_drawings, of_films = (
        typicality.fit(v.arrays["pooled"][v.rows("train")], v.patient[v.rows("train")]) for v in (sketches, films)
    )
    unseen = sketches.rows("val", "test")
    figures, seen = {}, {}
    for name in ("nih", "tb"):
        images = read_table(work / name / "images.csv", ["image_id", "path"], "")
        features.extract(images, small, work / name / "small.h5")
        seen[name] = feature_file.read(work / name / "small.h5", ["pooled"])[1]["pooled"]
        usual = sketches.arrays["pooled"][unseen], sketches.patient[unseen]
        figures[f"typicality_auroc_phantom_run_{name}"] = told_apart(of_drawings, *usual, seen[name])
    every = np.concatenate([*seen.values()])
    figures["typicality_auroc_phantom_run"] = told_apart(of_drawings, *usual, every)

    held = films.rows("val", "test")
    usual = films.arrays["pooled"][held], films.patient[held]
    negatives = work / "negatives"
    negatives.mkdir(exist_ok=True)
    for row in films.table[held].itertuples():
        Image.fromarray(255 - image.read(row.path)).save(negatives / f"{row.image_id}.png")
    drawings = sketches.table[unseen & (sketches.table.view == "frontal").to_numpy()].path[:100]
    strange = {
        "drawings": list(drawings),
        "photographs": photographs(work / "photographs"),
        "negatives": sorted(negatives.glob("*.png")),
    }
    for name, paths in strange.items():
        images = pd.DataFrame({"image_id": list(map(str, range(len(paths)))), "path": list(map(str, paths))})
        features.extract(images, lite0, work / f"{name}.h5")
        vectors = feature_file.read(work / f"{name}.h5", ["pooled"])[1]["pooled"]
        figures[f"typicality_auroc_real_run_{name}"] = told_apart(of_films, *usual, vectors)
    worst = min((f"typicality_auroc_real_run_{name}" for name in strange), key=lambda name: figures[name]["value"])
    figures["typicality_auroc_real_run"] = figures[worst]
    alarms = pd.Series(of_films.percentile(usual[0]) > typicality.WARN).groupby(usual[1]).agg(["sum", "count"])
    share = spreads({"a": alarms.to_numpy(float)}, {"a": lambda s: s[..., 0] / s[..., 1]}, 2000)["a"].as_json()
    return figures | {"typicality_false_alarms": figure(share["value"], share["low"], share["high"])}


# Speed ----------------------------------------------------------------------------------------------------------------


def speed_figures(data: Path, work: Path, turns: int = 3, copies: int = 4) -> Figures:
    """Images a second of Lite0 over those of ResNet-101, from the same large PNGs, in turns: median, lowest, highest.

    What is done once is left out: the program of each network is made before the clock starts. ResNet-101 has weights
    that nobody trained, which take as long.
    """
    import tempfile
    import time

    from paddle.vision.models import resnet101

    from medcap_paddle import image
    from medcap_paddle.image import Preprocessing
    from medcap_paddle.runtime.workers import map_ordered
    from medcap_paddle.vision import networks, predictor

    paths = sorted((data / "cxr_png").rglob("*.png")) * copies
    batches = [paths[k : k + 32] for k in range(0, len(paths), 32)]
    trunk = resnet101(num_classes=0, with_pool=False)
    network = networks.GridAndVector(trunk, trunk)
    readers = {
        "lite0": encoder.load(LITE0, arrays=["pooled"]),
        "resnet101": encoder.build(network, "resnet101", "untrained", Preprocessing(224), network.arrays),
    }
    seconds = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as folder:
        runs_ = {name: predictor.fast(reader, f"{folder}/{name}")[0] for name, reader in readers.items()}
        for _ in range(turns):
            for name, reader in readers.items():
                start = time.perf_counter()
                for ready in map_ordered(image.prepared, ((batch, reader.preprocessing) for batch in batches), ahead=4):
                    runs_[name](np.stack([pixels for pixels, _ in ready]))
                seconds[name].append(time.perf_counter() - start)
    ratios = np.array(seconds["resnet101"]) / np.array(seconds["lite0"])
    per_second = {f"{name}_images_per_second": len(paths) / np.array(taken) for name, taken in seconds.items()}
    ranges = {"lite0_vs_resnet101": ratios, **per_second}
    return {name: figure(float(np.median(v)), float(v.min()), float(v.max())) for name, v in ranges.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()
    with cli_errors():
        for part in ("nih_cxr", "tb_cxr"):
            require(arguments.data / part, "give the folder that holds nih_cxr and tb_cxr: make real DATA=folder")
        figures: Figures = {}
        parts = [finding_figures, caption_figures, typicality_figures]
        parts += [speed_figures] if (arguments.data / "cxr_png").exists() else []
        for part in parts:
            figures |= part(arguments.data, arguments.work)
            write_json(arguments.work / "figures.json", {"figures": figures})
    for name, entry in figures.items():
        print(f"{entry['value']:7.3f} [{entry['low']:.3f}, {entry['high']:.3f}]  {name}")


if __name__ == "__main__":
    main()
