"""The same work in PyTorch on its best settings: of the variants a task tries, the fastest is used."""

import os
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from medcap_paddle import image

os.environ.pop("MKL_CBWR", None)  # ours alone; that freed memory is kept for the next tensor helps PyTorch too

import numpy as np
import torch
import torch._inductor.config
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from unets import NETWORKS

import work

torch._inductor.config.freezing = True
PREPROCESSING = image.Preprocessing(work.SIZE)


def fastest(variants: dict):
    """The quickest of some functions, each warmed up; one that this machine cannot run is passed over."""
    times = {}
    for name, run in variants.items():
        try:
            run()
            begun = time.perf_counter()
            run()
            times[name] = time.perf_counter() - begun
        except Exception as error:  # a compiler may be missing, an operator unsupported
            print(f"{name}: {error}", file=sys.stderr)
    name = min(times, key=times.get)
    return name, variants[name]


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut (He et al., CVPR 2016), named as torchvision names them."""

    def __init__(self, inside: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or inside != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet101(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inside = 64
        for number, (blocks, width) in enumerate(zip((3, 4, 23, 3), (64, 128, 256, 512), strict=True), 1):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(inside, width, 2 if number > 1 and not block else 1))
                inside = 4 * width
            setattr(self, f"layer{number}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class Pictures(torch.utils.data.Dataset):
    """Reading as torchvision's users do it, in the steps of its `default_loader` and of the transforms that belong to
    its ResNet-101: Pillow in colour, the shorter side to 256 pixels, the middle, mean and deviation of ImageNet.
    """

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, k: int):
        with Image.open(self.paths[k]) as file:
            picture = file.convert("RGB")
        scale, start = 256 / min(picture.size), (256 - work.SIZE) // 2
        picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
        picture = picture.crop((start, start, start + work.SIZE, start + work.SIZE))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (PREPROCESSING.mean, PREPROCESSING.std))
        return (pixels - mean) / std


def ours(path: str):
    return torch.from_numpy(image.transform(image.read(path), PREPROCESSING))


def extraction(scratch: Path):
    """Behind our reader in two threads, and behind torchvision's own in as many processes."""
    network = ResNet101().eval()
    counted = {n: v for n, v in network.state_dict().items() if n.endswith("num_batches_tracked")}  # Paddle counts none
    network.load_state_dict(load_file(scratch / "resnet101.safetensors") | counted)
    numeric = torch.bfloat16 if work.HALF else torch.float32
    network = network.to(numeric).to(memory_format=torch.channels_last)
    example = torch.zeros([32, 3, work.SIZE, work.SIZE], dtype=numeric).to(memory_format=torch.channels_last)
    paths, usual = work.pictures(scratch), {"batch_size": 32, "num_workers": 2, "persistent_workers": True}
    loader = torch.utils.data.DataLoader(Pictures(paths), **usual)

    def batches(paths):
        ahead, waiting, batch = iter(paths), deque(), []
        with ThreadPoolExecutor(2) as pool:
            for _ in paths:
                while len(waiting) < 96 and (path := next(ahead, None)):
                    waiting.append(pool.submit(ours, path))
                batch.append(waiting.popleft().result())
                if len(batch) == 32 or not waiting:
                    yield torch.stack(batch)
                    batch = []

    @torch.inference_mode()
    def compute(run, batches) -> tuple[float, float]:
        """Seconds, and the norm of the first features."""
        begun = time.perf_counter()
        found = [run(pixels.to(numeric).to(memory_format=torch.channels_last)).float() for pixels in batches]
        return time.perf_counter() - begun, float(torch.cat(found)[: work.COMPARED].norm())

    with torch.inference_mode():
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, example)))
    runs = {"eager": network, "frozen": frozen, "compiled": torch.compile(network)}
    name, _ = fastest({name: partial(compute, run, [example]) for name, run in runs.items()})

    def once():
        seconds, norm = compute(runs[name], batches(paths))
        usual, _ = compute(runs[name], loader)
        told = {"norm": norm, "variant": f"{numeric}, channels last, {name}".removeprefix("torch.")}
        return {"amount": len(paths), "seconds": seconds, "usual": usual, **told}

    return once


def segmentation(name: str, scratch: Path):
    """One of `unets`, by one film at a time or by eight."""
    network = NETWORKS[name](4).eval()
    values = load_file(scratch / f"{name}.safetensors")
    counted = {n: v for n, v in network.state_dict().items() if n.endswith("num_batches_tracked")}
    unused = ("encoder.head", "encoder.fc")  # only classifying needs them
    network.load_state_dict({n: v for n, v in values.items() if not n.startswith(unused)} | counted)
    network, films = network.to(memory_format=torch.channels_last), torch.from_numpy(work.films())

    @torch.inference_mode()
    def once(run, size, films):
        found = [run(part.to(memory_format=torch.channels_last)) for part in films.split(size)]
        return {"amount": len(films), "norm": float(torch.cat(found).norm())}

    runs = {"eager": network, "compiled": torch.compile(network, dynamic=False)}
    variants = {f"{kind}, {size} at a time": (run, size) for kind, run in runs.items() for size in (1, 8)}
    name, _ = fastest({name: partial(once, *variant, films[:8]) for name, variant in variants.items()})
    return lambda: {**once(*variants[name], films), "variant": name}


class Captioner(nn.Module):
    """The same captioner, with the same dropout, one mask a report."""

    def __init__(self, vocab: int):
        super().__init__()
        self.image, self.words = nn.Linear(work.D, work.H), nn.Embedding(vocab, work.H)
        self.lstm = nn.LSTM(work.H, work.H, batch_first=True)
        self.gate, self.context = nn.Linear(work.H, work.H), nn.Linear(work.H, work.H)
        self.output = nn.Linear(work.H, vocab)
        self.feature_dropout = nn.Dropout(0.1)

    def drop(self, x):
        return x * F.dropout(torch.ones_like(x[:, :1]), 0.3) if self.training else x

    def see(self, features):
        return self.image(self.feature_dropout(features)).amax(1, keepdim=True)

    def write(self, memory, image):
        return self.output(self.drop(memory + self.context(torch.sigmoid(self.gate(memory)) * image)))

    def forward(self, features, tokens):
        image = self.see(features)
        _, state = self.lstm(image)
        memory, _ = self.lstm(self.drop(self.words(tokens) + image), state)
        return self.write(memory, image)


def captioner(scratch: Path, vocab: int) -> Captioner:
    model = Captioner(vocab)
    values = {
        name.replace("_l0", "") if not name.startswith("lstm") else name: value
        for name, value in load_file(scratch / f"captioner{vocab}.safetensors").items()
        if name not in ("mean", "deviation") and not name.startswith("lstm.0")
    }
    for name, value in values.items():  # Paddle keeps the weights of a linear layer the other way round
        layer = name.split(".")[0]
        values[name] = value.T if layer in ("image", "gate", "context", "output") and value.ndim == 2 else value
    model.load_state_dict(values)
    return model


def fit(scratch: Path):
    features, tokens = map(torch.from_numpy, work.training())

    def variant(compiled: bool):
        model = captioner(scratch, work.V)
        model.eval()
        with torch.no_grad():
            logits = model(features[: work.B], tokens[: work.B, :-1])
            agreed = float(F.cross_entropy(logits.flatten(0, 1), tokens[: work.B, 1:].flatten()))
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        forward = torch.compile(model) if compiled else model

        def once():
            for start in range(0, len(tokens), work.B):
                batch = tokens[start : start + work.B]
                logits = forward(features[start : start + work.B], batch[:, :-1])
                F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
            return {"amount": len(tokens) * work.T, "loss": agreed}

        return once

    name, run = fastest({"eager": variant(False), "compiled": variant(True)})
    return lambda: {**run(), "variant": name}


def beam(scratch: Path):
    """Batched: all places of all studies in one step, as ours."""
    model = captioner(scratch, work.WORDS).eval()
    values = torch.from_numpy(work.studies())
    N, S = len(values), work.BEAM

    def variant(compiled: bool):
        def step(token, h, c, image):
            output, (h, c) = model.lstm(model.words(token)[:, None] + image, (h, c))
            logits = model.write(output, image)[:, 0]
            logits[:, work.EOS] = -1e9
            return F.log_softmax(logits, -1), h, c

        fast = torch.compile(step) if compiled else step

        @torch.inference_mode()
        def once():
            image = model.see(values)
            _, (h, c) = model.lstm(image)
            image, h, c = (
                image.repeat_interleave(S, 0),
                h.repeat_interleave(S, 1),
                c.repeat_interleave(S, 1),
            )
            total = torch.full([N, S], -1e9)
            total[:, 0] = 0
            words = torch.full([N * S, 1], work.BOS)
            first = torch.arange(N)[:, None] * S
            for _ in range(work.STEPS):
                logp, h, c = fast(words[:, -1], h, c, image)
                value, token = logp.topk(S)
                total, best = (total[..., None] + value.view(N, S, S)).flatten(1).topk(S)
                rows = (first + best // S).flatten()
                token = token.view(N, S * S).gather(1, best).flatten()
                words = torch.cat([words[rows], token[:, None]], 1)
                h, c = h[:, rows], c[:, rows]
            return {"amount": N, "words": words.view(N, S, -1)[:8, 0, 1:].tolist()}

        return once

    name, run = fastest({"eager": variant(False), "compiled": variant(True)})
    return lambda: {**run(), "variant": name}


if __name__ == "__main__":
    segments = {name: partial(segmentation, name) for name in work.SEGMENTERS}
    work.serve({"features": extraction, "train": fit, "beam": beam, **segments})
