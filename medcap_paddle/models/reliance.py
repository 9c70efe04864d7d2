"""Which words of a report come from the image? What the image adds to the log-probability of each word, in nats:

    r_t = log p(w_t | w_1 ... w_t-1, image) - log p(w_t | w_1 ... w_t-1, mean image)

At 0 the word would be as likely without the image; at 2.3 the image makes it ten times as likely; below 0 it was
written in spite of the image. It is the pointwise mutual information of word and image, given the words before, where
the mean of all train images stands for no image (Favero et al., CVPR 2024, amplify it when they decode). It says how
much of a word comes from the image that was given, not whether the word is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import paddle

from ..dataset import Batch, pad_tokens
from ..loss import token_nll
from ..runtime.files import MedcapError
from .decoder import Decoder

if TYPE_CHECKING:
    from paddlenlp.data import Vocab


Arrays = Mapping[str, np.ndarray]
SUMS = {"image_gain": float, "predicted_words": int}  # columns of predictions.csv: of these the metric is made


def sums(model: Decoder, vocab: Vocab, inputs: Arrays, mean: Arrays, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """`SUMS` of B texts, [B] each: the reliance of a text's words, summed, and their number."""
    gains = per_word(model, vocab, inputs, mean, texts)
    return {"image_gain": np.array([gain.sum() for gain in gains]), "predicted_words": np.array([*map(len, gains)])}


def per_word(model: Decoder, vocab: Vocab, inputs: Arrays, mean: Arrays, texts: Sequence[str]) -> list[np.ndarray]:
    """The reliance of every word of B texts: arrays [words], without the end token. Put the model in eval mode first.

    inputs [B, K, ...] and mean [...] by name. One view, the mean, takes the place of all K. Two passes of teacher
    forcing. MedcapError on a word that the model does not know; `<unk>` is one that it knows.
    """
    ids = [_ids(vocab, text) for text in texts]
    bos, eos, pad = vocab.to_indices(["<bos>", "<eos>", "<pad>"])
    tokens = pad_tokens([[bos, *words, eos] for words in ids], pad)  # with its end, an empty text has a target too
    blind = {name: np.broadcast_to(array, [len(ids), 1, *array.shape]) for name, array in mean.items()}
    with_image, without = (forced_nll(model, Batch(dict(seen), tokens)) for seen in (inputs, blind))
    return [row[: len(words)] for row, words in zip(without - with_image, ids, strict=True)]


@paddle.no_grad()
def forced_nll(model: Decoder, batch: Batch) -> np.ndarray:
    """-log p of each word of the reports [B, T - 1], float64, by teacher forcing, padding included."""
    inputs = {name: paddle.to_tensor(array) for name, array in batch.inputs.items()}
    tokens = paddle.to_tensor(batch.tokens)
    return token_nll(model(inputs, tokens[:, :-1]), tokens[:, 1:]).numpy().astype("float64")


def _ids(vocab: Vocab, text: str) -> list[int]:
    words = text.split()
    if unknown := [word for word in words if word not in vocab]:
        raise MedcapError(f"{unknown[0]!r} is not in the vocabulary of the run: write <unk> in its place")
    return vocab.to_indices(words) if words else []
