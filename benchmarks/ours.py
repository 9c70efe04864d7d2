"""Our side of the benchmark: the functions that the notebooks call."""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd

import work
from medcap_paddle import dataset, encoder, feature_file, features, reports, train
from medcap_paddle.beam_search import beam_search
from medcap_paddle.config import GenerationSettings, TrainingSettings
from medcap_paddle.image import Preprocessing
from medcap_paddle.loss import token_nll
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.averaging import Average
from medcap_paddle.runtime.files import write_tensors
from medcap_paddle.vision import predictor, segmenter_run, segmenters

FREE = GenerationSettings(beam_size=work.BEAM, min_length=work.STEPS, length_penalty=0.0, no_repeat_ngram=0)


def extraction(scratch: Path):
    """ResNet-101 features from PNG files to features.h5; also the seconds of it that were spent in the network."""
    network = encoder.load("resnet101", scratch / "resnet101.safetensors")
    paths = work.pictures(scratch)
    table = pd.DataFrame({"image_id": map(str, range(len(paths))), "path": paths})
    run, _ = predictor.fast(network, scratch)
    inside = []

    def timed(pixels):
        begun = time.perf_counter()
        values = run(pixels)
        inside.append(time.perf_counter() - begun)
        return values

    # Left out: the export of the network, seconds however many images follow, and the first batch once more in
    # float32, which states the difference.
    predictor.fast = lambda *_: (timed, "float32")  # as if there were no difference to state
    out = scratch / "features.h5"

    def once():
        out.unlink(missing_ok=True)
        inside.clear()
        begun = time.perf_counter()
        features.extract(table, network, out)
        answer = {"amount": len(paths), "seconds": time.perf_counter() - begun, "network": sum(inside)}
        pooled = feature_file.read(out, ["pooled"])[1]["pooled"]
        return {**answer, "norm": float(np.linalg.norm(pooled[: work.COMPARED]))}

    return once


def segmenter(name: str):
    """The shipped network; the other one with ImageNet's weights below and made-up ones above."""
    if name == work.SEGMENTERS[0]:
        return segmenter_run.load().network.network
    paddle.seed(0)
    network = segmenters.SEGMENTERS[name].build(4)
    segmenters.SEGMENTERS[name].begin(network, None)
    network.eval()
    return network


def segmentation(name: str, scratch: Path):
    """Logits of eight films after the other, as `segment predict` computes them."""
    reader = encoder.build(segmenter(name), name, "", Preprocessing(work.PIXELS), ("logits",))
    run, _ = predictor.fast(reader, scratch, exact=True)
    films = work.films()

    def once():
        parts = np.split(films, range(segmenter_run.AT_ONCE, len(films), segmenter_run.AT_ONCE))
        found = np.concatenate([run(part)["logits"] for part in parts])
        return {"amount": len(films), "norm": float(np.linalg.norm(found))}

    return once


def captioner(vocab: int, hidden: int = work.H) -> LSTMCaptioner:
    paddle.seed(0)
    settings = LSTMCaptioner.Settings(hidden, hidden, 1, dropout=0.3, feature_dropout=0.1, feature_noise=0.0)
    return LSTMCaptioner(settings, {"pooled": (work.D,)}, vocab)


def theirs(name: str) -> str:
    """PyTorch's name of a tensor of Paddle's batch norm."""
    return name.replace("._mean", ".running_mean").replace("._variance", ".running_var")


def save_weights(scratch: Path):
    """Weights and answers for the other workers: the same model must give the same loss and the same words."""
    for vocab in (work.V, work.WORDS):
        write_tensors(scratch / f"captioner{vocab}.safetensors", loop.tensors(captioner(vocab)))
    network = paddle.vision.models.resnet101(num_classes=0)
    names = {}
    rng = np.random.default_rng(0)
    for name, value in network.state_dict().items():
        value = value.numpy()
        if name.endswith(("conv1.weight", "conv2.weight", "conv3.weight")) or "downsample.0" in name:
            value = rng.normal(0, np.sqrt(2 / value[0].size), value.shape).astype("float32")
        elif "bn3.weight" in name:
            value = np.full_like(value, 0.2)  # or random weights end in numbers of a million
        names[theirs(name)] = value
    write_tensors(scratch / "resnet101.safetensors", names)
    for name in work.SEGMENTERS:
        write_tensors(scratch / f"{name}.safetensors", {theirs(n): v for n, v in loop.tensors(segmenter(name)).items()})
    return lambda: {"amount": 1}


def loss(model, pooled, tokens) -> float:
    nll = token_nll(model({"pooled": pooled}, tokens[:, :-1]), tokens[:, 1:])
    return float(nll.mean())


class Bar:
    def update(self):
        pass


def epoch(model, split: dataset.Studies, settings: TrainingSettings):
    """A function that trains for an epoch, as `loop.fit` does, without writing anything."""
    task = train.TeacherForcing(model, split, None, settings)
    optimizer, rate = loop.optimizer_of(model, settings, task.steps)
    learn = loop._learner(model, task, optimizer)
    return lambda: loop._epoch(Average(model, 0), task, 1, 0, learn, rate, Bar())


def fit(_: Path):
    """An epoch of the loop that trains: batches assembled, forward, backward, clipping, Adam."""
    values, tokens = work.training()
    table = pd.DataFrame({"study_id": range(len(tokens))})
    split = dataset.Studies(table, {"pooled": list(values)}, tokens.tolist(), pad=0)
    model = captioner(work.V)
    model.eval()
    agreed = loss(model, paddle.to_tensor(values[: work.B]), paddle.to_tensor(tokens[: work.B]))
    settings = TrainingSettings(batch_size=work.B, learning_rate=1e-3, schedule="constant")
    run = epoch(model, split, settings)

    def once():
        run()
        return {"amount": len(tokens) * work.T, "loss": agreed}

    return once


def beam(_: Path):
    model = captioner(work.WORDS)
    model.eval()
    inputs = {"pooled": paddle.to_tensor(work.studies())}

    def once():
        found = beam_search(model, inputs, work.BOS, work.EOS, FREE, work.STEPS)
        return {"amount": work.IMAGES, "words": [list(beams[0][0]) for beams in found[:8]]}

    return once


def product(_: Path):
    """The rate of float32 matrix products of the size that the search is made of, in GFLOP."""
    rows = work.IMAGES * work.BEAM
    a, b = paddle.rand([rows, work.H]), paddle.rand([work.H, 4 * work.H])

    def once():
        for _ in range(200):
            c = paddle.matmul(a, b)
        c.numpy()
        return {"amount": 200 * 2 * rows * work.H * 4 * work.H / 1e9}

    return once


def parse(scratch: Path):
    """Open-i XML to the cells of reports.csv."""

    def once():
        return {"amount": sum(1 for _ in reports.records(scratch / "reports", scratch))}

    return once


# --- growth: the same work for n studies ------------------------------------------------------------------------------


def grow_features(scratch: Path):
    network = encoder.load("small")
    paths = sorted(map(str, (scratch / "small").glob("*.png")))
    run, _ = predictor.fast(network, scratch)
    predictor.fast = lambda *_: (run, "float32")  # the start does not grow with the images
    out = scratch / "grown.h5"

    def seconds(n: int) -> float:
        out.unlink(missing_ok=True)
        table = pd.DataFrame(
            {"image_id": [f"{i}" for i in range(n)], "path": [paths[i % len(paths)] for i in range(n)]}
        )
        begun = time.perf_counter()
        features.extract(table, network, out)
        return time.perf_counter() - begun

    return growth(seconds)


def made_up(n: int) -> dataset.Studies:
    """n studies with reports of 20 to 59 words."""
    rng = np.random.default_rng(0)
    values = list(rng.normal(size=[n, 2, work.D]).astype("float32"))
    tokens = [rng.integers(3, work.V, length).tolist() for length in rng.integers(20, 60, n)]
    return dataset.Studies(pd.DataFrame({"study_id": range(n)}), {"pooled": values}, tokens, pad=0)


def grow_train(_: Path):
    model = captioner(work.V, 128)
    settings = TrainingSettings(batch_size=16, learning_rate=1e-3, schedule="constant")

    def seconds(n: int) -> float:
        run = epoch(model, made_up(n), settings)
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun

    return growth(seconds)


def grow_beam(_: Path):
    model = captioner(work.V, 128)
    model.eval()
    settings = replace(FREE, min_length=20)

    def seconds(n: int) -> float:
        split = made_up(n)
        begun = time.perf_counter()
        for start in range(0, n, 64):
            inputs, _ = split.batch(range(start, min(start + 64, n)))
            pooled = paddle.to_tensor(inputs["pooled"])
            beam_search(model, {"pooled": pooled}, work.BOS, work.EOS, settings, 20)
        return time.perf_counter() - begun

    return growth(seconds)


def growth(seconds):
    """Seconds for 250 to 4,000 studies; the order turns round every time, so that a drift of the machine cancels."""
    sizes = [250, 500, 1000, 2000, 4000]
    seconds(250)

    def once():
        sizes.reverse()
        return {"amount": 1, "seconds": {n: seconds(n) for n in sizes}}

    return once


if __name__ == "__main__":
    work.serve(
        {
            "weights": save_weights,
            "features": extraction,
            "train": fit,
            "beam": beam,
            "product": product,
            **{name: partial(segmentation, name) for name in work.SEGMENTERS},
            "parse": parse,
            "slope_features": grow_features,
            "slope_train": grow_train,
            "slope_beam": grow_beam,
        }
    )
