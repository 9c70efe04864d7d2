"""Image encoders: a radiograph to one vector; and the training of our own on finding labels.

    resnet101   ResNet-101 trained on ImageNet, pooled, 2048 numbers; weights come from a local file or from Paddle
    small       ours: a light ResNet-18 trained on drawn radiographs, shipped as encoder.safetensors beside this file;
                its vector is the logit of each finding of `findings.LABELS`, sides apart
    random      a small network nobody trained, for tests

`encoder.safetensors` holds float16 tensors `trunk.*`, `neck.*` and `head.*` (one logit a label); its metadata say
labels, image_size, seed, images, epochs, auc (linear probe, unseen studies; missing where these are too few) and
started_from (an older encoder).

    python -m medcap_paddle.encoder [--images N] [--epochs E] [--size S] [--out PATH]    train on phantoms
    python -m medcap_paddle.encoder --work WORK [...]                                    on MeSH tags of 01's tables
    ... --start PATH                                                                     continue from an encoder
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import threading
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import distributed as dist
from paddle import nn
from paddle.utils import download
from paddle.vision.models import resnet, resnet18, resnet101
from PIL import Image

from . import image
from .files import MedcapError, atomic, plain_ending, read_table, require
from .findings import KINDS, LABELS, from_mesh, label_vector
from .phrasing import sample_findings
from .radiograph import draw

SHIPPED = Path(__file__).with_name("encoder.safetensors")
URL, MD5 = resnet.model_urls["resnet101"]
PATIENCE = 4.0  # seconds to find out whether there is a network
SURE = 6.0  # logit: a finding is there, or not there, with a probability of .998
MINIMUM = 5  # studies that have a finding, and that have it not, for an AUC
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # (uint8 [H, W], float32 [L]) each


@dataclass(frozen=True)
class Encoder:
    """A network in evaluation mode, [N, 3, S, S] -> [N, D], and what must be said of its features."""

    network: nn.Layer
    name: str
    weights: str  # fingerprint of the tensors: the same weights give the same, whatever file they come from
    source: str  # the file they came from
    dim: int
    image_size: int


# --- loading ----------------------------------------------------------------------------------------------------------


def load(name: str, weights: str | Path | None = None) -> Encoder:
    """The encoder of that name; `weights` is a local .pdparams or .safetensors to use instead of the usual file."""
    if name == "resnet101":
        path = Path(weights) if weights else _imagenet()
        tensors = _from_torchvision(_tensors(path)[0])
        size, network = 224, nn.Sequential(resnet101(num_classes=0), nn.Flatten())
        _fill(network[0], tensors, path)
    elif name == "small":
        path = Path(weights or SHIPPED)
        tensors, facts = _tensors(path)
        if "labels" not in facts:
            raise MedcapError(f"{path} is not an encoder of ours (no labels in its metadata): train one, make encoder")
        size = int(facts["image_size"])
        whole = Small(len(json.loads(facts["labels"])))
        _fill(whole, tensors, path)
        if size >= 96 and size // 32 % 3 < 2:  # the same 3 x 3 cells; oneDNN pools adaptively in float32 only
            stride = size // 96
            whole.neck[3] = nn.AvgPool2D(size // 32 - 2 * stride, stride)
        # The findings, not the 512 numbers before them: on 2,000 reports a captioner learns those by heart
        # (validation perplexity 4.27, that of a model that sees nothing) and reads these. Logits, since a linear
        # reader loses the doubtful ones among probabilities; cut off, so that a strange image stays in range.
        network = nn.Sequential(whole, nn.Hardtanh(-SURE, SURE))
    elif name == "random":
        path, size, network = Path("seed 0"), 64, _random()
    else:
        raise MedcapError(f"no encoder is called {name!r}: choose resnet101, small or random")
    network.eval()
    with paddle.no_grad():
        dim = network(paddle.zeros([1, 3, size, size])).shape[1]
    return Encoder(network, name, fingerprint(network), path.name, dim, size)


def choose(phantom_images: bool, weights: str | Path | None = None) -> str:
    """The encoder to take: ours for phantoms, ResNet-101 for real images where its weights can be had."""
    if weights:
        return "small" if "labels" in _tensors(Path(weights))[1] else "resnet101"
    if phantom_images:
        return "small"
    if _cached().exists() or reachable(URL):
        return "resnet101"
    warnings.warn(
        "No ImageNet weights of ResNet-101 here and no network to get them: using our small encoder, which was trained "
        f"on drawn radiographs only and reads real ones poorly. {_by_hand()}",
        stacklevel=2,
    )
    return "small"


def fingerprint(network: nn.Layer) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def reachable(url: str, seconds: float = PATIENCE) -> bool:
    """Whether the address answers in time. In a thread, since looking up a name knows no timeout."""
    answers = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds) as reply:
                answers.append(reply.status == 200)
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers == [True]


def _cached() -> Path:
    return Path(download.WEIGHTS_HOME) / Path(URL).name


def _by_hand() -> str:
    return (
        f"To use ResNet-101, fetch {URL} (md5 {MD5}) and put it in {_cached().parent}, "
        "or give a local .pdparams, or a .safetensors with torchvision names, as weights."
    )


def _imagenet() -> Path:
    """Paddle's own copy of the weights, downloaded when needed."""
    # Paddle's downloader tries again for ever, so it is called only when it can succeed.
    if not (_cached().exists() and hashlib.md5(_cached().read_bytes()).hexdigest() == MD5) and not reachable(URL):
        state = "has another md5" if _cached().exists() else "not found"
        raise MedcapError(f"{_cached()} {state}, and no network to download it. {_by_hand()}")
    return Path(download.get_weights_path_from_url(URL, MD5))


class _Arrays(pickle.Unpickler):
    """Reads a pickle of arrays, and refuses to call anything else: a weights file must not run code."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode", "OrderedDict"}

    def find_class(self, module: str, name: str):
        if module.split(".")[0] in ("numpy", "_codecs", "collections") and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")


def _tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays by name, and the metadata, of a .safetensors or .pdparams file."""
    from safetensors import safe_open

    require(path, "check the path of the weights")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
        with path.open("rb") as file:
            tensors = _Arrays(file, encoding="latin1").load()
        # paddle.save of a network stores (name, array) pairs in some versions, and a table of names
        tensors = {name: value[1] if isinstance(value, tuple) else value for name, value in tensors.items()}
        return {name: value for name, value in tensors.items() if isinstance(value, np.ndarray)}, {}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise MedcapError(f"{path} is not a readable weights file ({error}): fetch it again") from error


def _from_torchvision(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torchvision's names of a ResNet to Paddle's; what only training or classifying needs is dropped."""
    return {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for name, value in tensors.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def _fill(network: nn.Layer, tensors: dict[str, np.ndarray], path: Path) -> None:
    """Set every tensor of the network, and use every tensor of the file."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    wrong = [name for name in wanted if name in found and found[name] != wanted[name]]
    for what, names in (
        ("lacks", sorted(wanted.keys() - found.keys())),
        ("has unknown", sorted(found.keys() - wanted.keys())),
        ("has other shapes for", wrong),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise MedcapError(f"{path} {what} {', '.join(names[:3])}{more}: it is not the network we build")
    network.set_state_dict({name: value.astype(np.float32) for name, value in tensors.items()})


# --- networks ---------------------------------------------------------------------------------------------------------


class Small(nn.Layer):
    """ResNet-18 with one block a stage instead of two, and a neck that knows where in the picture something is.

    Pooling the whole picture, as ResNet does, would have to learn left and right from the padding. The first
    convolution steps by 4 at once instead of by 2 and pooling: on a CPU that saves a third of the training.
    """

    def __init__(self, labels: int):
        super().__init__()
        self.trunk = resnet18(num_classes=0, with_pool=False)  # [N, 512, S / 32, S / 32]
        self.trunk.conv1 = nn.Conv2D(3, 64, 7, stride=4, padding=3, bias_attr=False)
        self.trunk.maxpool = nn.Identity()
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            setattr(self.trunk, stage, getattr(self.trunk, stage)[:1])
        self.neck = nn.Sequential(
            *(nn.Conv2D(512, 128, 1, bias_attr=False), nn.BatchNorm2D(128), nn.ReLU()),
            *(nn.AdaptiveAvgPool2D(3), nn.Flatten()),  # a grid of 3 x 3 at any size
            *(nn.Linear(128 * 9, 512, bias_attr=False), nn.BatchNorm1D(512), nn.ReLU()),
        )
        rare = nn.initializer.Constant(-3.0)  # a finding is there in one of twenty studies
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, labels, bias_attr=paddle.ParamAttr(initializer=rare)))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.neck(self.trunk(images)))  # [N, L]


def _random() -> nn.Layer:
    """Two convolutions, pooled to a 4 x 4 grid: 256 numbers of order 1."""
    network = nn.Sequential(
        *(nn.Conv2D(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2D(16, 16, 5, 2, 2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2D(4), nn.Flatten()),
    )
    rng = np.random.default_rng(0)  # not paddle.seed, which would change everybody's numbers
    for layer in (network[0], network[2]):
        fan_in = np.prod(layer.weight.shape[1:])
        layer.weight.set_value(rng.normal(0, np.sqrt(2 / fan_in), layer.weight.shape).astype(np.float32))
        layer.bias.set_value(np.zeros(layer.bias.shape, np.float32))
    return network


# --- training ---------------------------------------------------------------------------------------------------------

# Collections count their seeds from 0 and draw patients below 2**32: ours lie above, so no phantom is seen twice.
SEEDS = 2**40
HELD_OUT = 1_000_000  # the first study of those that measure, far behind those that train
DRAWABLE = tuple(name for name, kind in KINDS.items() if kind.label is not None)


def phantoms(studies: range, like: str = "training") -> tuple[Pairs, list[str]]:
    """Frontal and lateral of made-up studies with the labels of the study, and the study of each picture.

    For training, half the studies draw every labelled kind equally often, and several at once: an encoder must also
    know what is rare, and a picture costs the same whatever is on it.
    The others, and all that are like a "collection", draw kinds as often as a phantom collection does.
    """
    from tqdm.auto import tqdm

    pairs, study_ids = [], []
    for index in tqdm(studies, "drawing", unit="study", disable=dist.get_rank() > 0):
        rng = np.random.default_rng([SEEDS, index])
        if like == "collection":
            findings = sample_findings(rng)
        else:
            findings = sample_findings(rng, 0.1, DRAWABLE, [0.2] * 5) if index % 2 else sample_findings(rng, 0.2)
        pairs += [(draw(findings, view, SEEDS + index), label_vector(findings)) for view in ("frontal", "lateral")]
        study_ids += [str(index)] * 2
    return pairs, study_ids


def tagged(work_dir: str | Path, splits: Sequence[str], size: int) -> tuple[Pairs, list[str]]:
    """Real images of these splits with the labels of their study's MeSH tags, and the study of each image.

    Kept in memory, reduced to little more than `size`; images that cannot be read are left out and counted.
    """
    from tqdm.auto import tqdm

    work_dir = Path(work_dir)
    reports = read_table(work_dir / "reports.csv", ["study_id", "split", "mesh"], "run 01_reports.ipynb")
    images = read_table(work_dir / "images.csv", ["study_id", "path"], "run 01_reports.ipynb")
    table = images.merge(reports[reports["split"].isin(splits)], on="study_id")
    pairs, study_ids = [], []
    for path, mesh, study in tqdm(list(zip(table["path"], table["mesh"], table["study_id"], strict=True)), "reading"):
        try:
            pixels = image.read(path)
        except MedcapError:
            continue
        reduced = Image.fromarray(pixels).reduce(max(1, max(pixels.shape) // size))
        pairs.append((np.asarray(reduced), label_vector(from_mesh(mesh))))
        study_ids.append(study)
    if len(pairs) < len(table):
        tqdm.write(f"{len(table) - len(pairs)} of {len(table)} images cannot be read and are left out")
    return pairs, study_ids


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure of another position: shifted, scaled, turned a little, gamma, noise. Never mirrored."""
    height, width = pixels.shape
    scale, turn = rng.uniform(0.92, 1.08), rng.uniform(-0.05, 0.05)
    a, b = np.cos(turn) / scale, np.sin(turn) / scale
    x, y = width * (0.5 + rng.uniform(-0.05, 0.05)), height * (0.5 + rng.uniform(-0.05, 0.05))
    matrix = (a, b, width / 2 - a * x - b * y, -b, a, height / 2 + b * x - a * y)
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    tones = 255 * np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(tones[np.asarray(moved)] + noise, 0, 255).astype(np.uint8)


def batches(
    pairs: Pairs, size: int, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[list[np.ndarray]]:
    """Images [B, 3, S, S] and targets [B, L]; shuffled and augmented when `rng` is given. Prepared one batch ahead."""
    order = np.arange(len(pairs)) if rng is None else rng.permutation(len(pairs))
    starts = range(0, len(order) if rng is None else len(order) - batch_size + 1, batch_size)

    def prepare(start: int) -> list[np.ndarray]:
        chosen = [pairs[i] for i in order[start : start + batch_size]]
        pictures = [image.transform(augment(pixels, rng) if rng else pixels, size) for pixels, _ in chosen]
        return [np.stack(pictures), np.stack([target for _, target in chosen])]

    with ThreadPoolExecutor(1) as background:
        coming = None
        for start in starts:
            ready, coming = coming, background.submit(prepare, start)
            if ready:
                yield ready.result()
        if coming:
            yield coming.result()


def train(
    pairs: Pairs,
    labels: Sequence[str] = LABELS,
    *,
    size: int,
    epochs: int,
    batch_size: int = 12,
    learning_rate: float = 1e-3,
    seed: int = 0,
    start: str | Path | None = None,
    out: str | Path | None = None,
) -> tuple[Small, list[float]]:
    """Multi-label training on images of `size`; the network and the loss of each epoch.

    From scratch, or from the encoder in the file `start`.

    With several processes each trains on its own `pairs`, equally many, and the gradients are averaged. After every
    epoch `out` is written, so that a training that is stopped leaves something behind.
    """
    from tqdm.auto import tqdm

    if len(pairs) < batch_size:
        raise MedcapError(f"{len(pairs)} images are fewer than a batch of {batch_size}: give more")
    rank, processes = dist.get_rank(), dist.get_world_size()
    paddle.seed(seed)
    network = Small(len(labels))
    if start:
        _fill(network, _tensors(Path(start))[0], Path(start))
    parallel = paddle.DataParallel(network) if processes > 1 else network
    steps = epochs * (len(pairs) // batch_size)
    cosine = paddle.optimizer.lr.CosineAnnealingDecay(learning_rate, steps)
    schedule = paddle.optimizer.lr.LinearWarmup(cosine, max(1, steps // 20), learning_rate / 20, learning_rate)
    optimizer = paddle.optimizer.AdamW(
        schedule, parameters=network.parameters(), weight_decay=0.01, grad_clip=nn.ClipGradByGlobalNorm(5.0)
    )
    history = []
    with tqdm(total=steps, desc="training", unit="step", disable=rank > 0) as bar:
        for epoch in range(epochs):
            network.train()
            losses = []
            for pictures, targets in batches(pairs, size, batch_size, np.random.default_rng([seed, epoch, rank])):
                logits = parallel(paddle.to_tensor(pictures))
                loss = F.binary_cross_entropy_with_logits(logits, paddle.to_tensor(targets))
                loss.backward()
                optimizer.step()
                optimizer.clear_grad()
                schedule.step()
                losses.append(loss.item())
                bar.update()
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
            history.append(float(np.mean(losses)))
            if out and rank == 0:
                save(network, out, labels, size, seed=seed, images=processes * len(pairs), epochs=epoch + 1)
    return network, history


def outputs(network: Small, pairs: Pairs, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (the logit of each label) and targets of every image, [N, L] each."""
    network.eval()
    rows = []
    with paddle.no_grad():
        for pictures, targets in batches(pairs, size, 32):
            rows.append((F.hardtanh(network(paddle.to_tensor(pictures)), -SURE, SURE).numpy(), targets))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def save(network: Small, path: str | Path, labels: Sequence[str], size: int, **facts: object) -> None:
    """The encoder as float16 safetensors, with what must be known to use and to judge it."""
    from safetensors.numpy import save_file

    tensors = {name: tensor.numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    described = {"labels": json.dumps(list(labels)), "image_size": str(size), **{k: str(v) for k, v in facts.items()}}
    with atomic(path) as temporary:
        save_file(tensors, temporary, described)


# --- what the features know -------------------------------------------------------------------------------------------


def areas(scores: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """AUC of every label that at least MINIMUM rows have and as many have not."""
    from sklearn.metrics import roc_auc_score

    enough = [k for k in range(len(labels)) if _both(targets[:, k])]
    return {labels[k]: float(roc_auc_score(targets[:, k], scores[:, k])) for k in enough}


def probe(
    features: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    labels: Sequence[str] = LABELS,
) -> tuple[dict[str, float], list[str]]:
    """How well a linear model reads each label: AUC on the test studies, and the labels with too few positives.

    features [S, D] and targets [S, L], a row a study; `train` and `test` are masks [S].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    enough = [k for k in range(len(labels)) if all(_both(targets[mask, k]) for mask in (train, test))]
    scores = np.zeros((int(test.sum()), len(labels)))
    for k in enough:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
        scores[:, k] = model.fit(features[train], targets[train, k]).decision_function(features[test])
    auc = areas(scores[:, enough], targets[test][:, enough], [labels[k] for k in enough])
    return auc, [label for label in labels if label not in auc]


def _both(target: np.ndarray) -> bool:
    return MINIMUM <= target.sum() <= len(target) - MINIMUM


def by_study(features: np.ndarray, study_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A row a study, the maximum over its views, [S, D], and the study ids in order.

    For the probe the maximum reads a little better than the mean, and as well as both together.
    """
    ids = list(dict.fromkeys(study_ids))
    rows = {study: [] for study in ids}
    for study, row in zip(study_ids, features, strict=True):
        rows[study].append(row)
    return np.stack([np.max(rows[study], 0) for study in ids]), ids


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medcap_paddle.encoder", description="Train the small encoder.")
    parser.add_argument("--images", type=int, default=10_000, help="drawn to train on, two a study")
    parser.add_argument("--work", metavar="WORK", help="train on the images and MeSH tags of 01's tables instead")
    parser.add_argument("--start", metavar="PATH", help="continue from this encoder instead of from scratch")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="of the images: 96, 128, 192, 224 ...")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate, cosine to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(SHIPPED))
    args = parser.parse_args()
    if args.size % 32 or args.size < 96 or args.size // 32 % 3 == 2:
        parser.error("--size must be 96, 128, 192, 224 ...: 3 x 3 cells of equal size must cover the last grid")
    cores = int(os.environ["OMP_NUM_THREADS"]) if paddle.device.get_device() == "cpu" else 1
    with plain_ending():
        if args.work:
            require(Path(args.work) / "reports.csv", "run 01_reports.ipynb")
        if cores > 1:  # a process a core: most of Paddle's training operators know only one thread
            os.environ["OMP_NUM_THREADS"] = "1"
            dist.spawn(run, (args,), nprocs=cores, backend="gloo")
        else:
            run(args)


def run(args: argparse.Namespace) -> None:
    """One process of the command: trains on its share of the images; the first one measures and saves."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    if processes > 1:
        dist.init_parallel_env()
    if args.work:
        pairs = tagged(args.work, ["train"], args.size)[0]
        pairs = pairs[rank : len(pairs) // processes * processes : processes]
    else:
        share = args.images // 2 // processes
        pairs = phantoms(range(rank * share, (rank + 1) * share))[0]
    out = Path(args.out)
    unfinished = out.with_name(f"unfinished-{out.name}")  # a stopped training must not replace a good encoder
    network, _ = train(
        pairs,
        size=args.size,
        epochs=args.epochs,
        learning_rate=args.rate,
        seed=args.seed,
        start=args.start,
        out=unfinished,
    )
    if rank:
        return
    unseen = (
        tagged(args.work, ["val"], args.size) if args.work else phantoms(range(HELD_OUT, HELD_OUT + 1000), "collection")
    )
    # a collection split "8:2" has no val studies: the encoder is kept, and nothing said of how well it reads
    auc, left_out = probe_network(network, *unseen, args.size) if unseen[0] else ({}, LABELS)
    for label, value in sorted(auc.items(), key=lambda item: item[1]):
        print(f"{value:.3f}  {label}")
    facts = {"seed": args.seed, "images": processes * len(pairs), "epochs": args.epochs}
    facts |= {"auc": f"{np.mean(list(auc.values())):.4f}"} if auc else {}
    print(f"{facts.get('auc', 'no')}  mean of {len(auc)} labels; too few positives: {', '.join(left_out) or 'none'}")
    facts |= {"started_from": Path(args.start).name} if args.start else {}
    save(network, out, LABELS, args.size, **facts)
    unfinished.unlink(missing_ok=True)


def probe_network(
    network: Small, pairs: Pairs, study_ids: Sequence[str], size: int
) -> tuple[dict[str, float], list[str]]:
    """`probe` by study, fitted on the first 60% of unseen studies and tested on the others."""
    features, targets = outputs(network, pairs, size)
    rows, ids = by_study(features, study_ids)
    truth = dict(zip(study_ids, targets, strict=True))
    train = np.arange(len(ids)) < 0.6 * len(ids)
    return probe(rows, np.stack([truth[study] for study in ids]), train, ~train)


if __name__ == "__main__":
    main()
