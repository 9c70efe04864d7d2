"""Paddle as a user meets it: no variables set, the obvious calls; and the search of the original notebook, a heap of
partial reports for one image at a time.
"""

import heapq
import time
from pathlib import Path

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from safetensors.numpy import load_file

import work


def extraction(scratch: Path):
    network = paddle.vision.models.resnet101(num_classes=0)
    values = load_file(scratch / "resnet101.safetensors")
    network.set_state_dict(
        {n.replace("running_mean", "_mean").replace("running_var", "_variance"): v for n, v in values.items()}
    )
    network.eval()
    mean, std = np.array([0.485, 0.456, 0.406], "float32"), np.array([0.229, 0.224, 0.225], "float32")
    paths = work.pictures(scratch)

    def some(paths):
        pictures = []
        for path in paths:
            pixels = cv2.resize(cv2.imread(path), (work.SIZE, work.SIZE), interpolation=cv2.INTER_AREA)
            pictures.append(((pixels[..., ::-1] / np.float32(255) - mean) / std).transpose(2, 0, 1))
        with paddle.no_grad():
            return network(paddle.to_tensor(np.stack(pictures))).numpy()

    def once():
        """As many as fit its pace."""
        begun, found = time.perf_counter(), []
        while len(found) * work.COMPARED < len(paths) and time.perf_counter() < begun + work.BOX:
            start = len(found) * work.COMPARED
            found.append(some(paths[start : start + work.COMPARED]))
        return {"amount": len(found) * work.COMPARED, "norm": float(np.linalg.norm(found[0]))}

    return once


class Captioner(nn.Layer):
    """The same captioner in the calls that the documentation shows."""

    def __init__(self, vocab: int):
        super().__init__()
        self.image, self.words = nn.Linear(work.D, work.H), nn.Embedding(vocab, work.H)
        self.lstm = nn.LSTM(work.H, work.H)
        self.gate, self.context = nn.Linear(work.H, work.H), nn.Linear(work.H, work.H)
        self.output = nn.Linear(work.H, vocab)
        self.dropout, self.forget = nn.Dropout(0.3), nn.Dropout(0.1)

    def write(self, memory, image):
        return self.output(self.dropout(memory + self.context(F.sigmoid(self.gate(memory)) * image)))

    def see(self, features):
        return self.image(self.forget(features)).max(1, keepdim=True)

    def forward(self, features, tokens):
        image = self.see(features)
        outputs, _ = self.lstm(self.dropout(paddle.concat([image, self.words(tokens) + image], 1)))
        return self.write(outputs[:, 1:], image)


def captioner(scratch: Path, vocab: int) -> Captioner:
    model = Captioner(vocab)
    values = load_file(scratch / f"captioner{vocab}.safetensors")
    model.set_state_dict({name: value for name, value in values.items() if name not in ("mean", "deviation")})
    return model


def fit(scratch: Path):
    values, tokens = (paddle.to_tensor(array[: work.B]) for array in work.training())
    model = captioner(scratch, work.V)
    model.eval()
    agreed = float(F.cross_entropy(model(values, tokens[:, :-1]), tokens[:, 1:]))
    model.train()
    clip = nn.ClipGradByGlobalNorm(5.0)
    optimizer = paddle.optimizer.Adam(1e-3, parameters=model.parameters(), grad_clip=clip)

    def once():
        loss = F.cross_entropy(model(values, tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return {"amount": work.B * work.T, "loss": agreed}

    return once


def beam(scratch: Path):
    """As the notebook searched: every partial report of a heap goes through the network by itself."""
    model = captioner(scratch, work.WORDS)
    model.eval()
    values = work.studies()[:4]

    @paddle.no_grad()
    def search(features):
        image = model.see(paddle.to_tensor(features[None]))
        _, state = model.lstm(image)
        beams = [(0.0, [work.BOS], state)]
        for _ in range(work.STEPS):
            heap = []
            for total, words, state in beams:
                read = model.words(paddle.to_tensor([[words[-1]]])) + image
                output, following = model.lstm(read, state)
                logits = model.write(output, image)
                logits[..., work.EOS] = -1e9  # no early end
                logp = F.log_softmax(logits).numpy().ravel()
                for token in np.argsort(logp)[-work.BEAM :]:
                    heapq.heappush(heap, (total + float(logp[token]), len(heap), [*words, int(token)], following))
            beams = [(total, words, state) for total, _, words, state in heapq.nlargest(work.BEAM, heap)]
        return beams[0][1][1:]

    def once():
        return {"amount": len(values), "words": [search(features) for features in values]}

    return once


if __name__ == "__main__":
    work.serve({"features": extraction, "train": fit, "beam": beam})
