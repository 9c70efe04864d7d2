"""The words a captioner may write: paddlenlp's `Vocab`, counted on the train split only.

vocab.json: {"tokens": [...in order of their ids...], "special": {"pad_token": "<pad>", ...}, "digest": of the rest}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .runtime import cache
from .runtime.files import MedcapError, digest, lock, read_sealed, write_sealed

if TYPE_CHECKING:
    from paddlenlp.data import Vocab

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
FIX = "run 03_vocab.ipynb"


def build(reports: Iterable[str], min_freq: int = 3) -> Vocab:
    """Vocabulary of cleaned reports; words seen fewer than `min_freq` times are left to `<unk>`."""
    from paddlenlp.data import Vocab

    return Vocab.build_vocab((report.split() for report in reports), min_freq=min_freq, **SPECIAL)


def make(reports: Iterable[str], min_freq: int, path: str | Path) -> Vocab:
    """The vocabulary of `reports`, written to `path`; not repeated while `reports` and `min_freq` are the same."""
    reports = list(reports)
    inputs = digest(min_freq, reports)
    if cache.is_current(path, inputs):
        return load(path)
    vocab = build(reports, min_freq)
    with lock(path):
        save(vocab, path)
        cache.mark_done(path, inputs)
    return vocab


def save(vocab: Vocab, path: str | Path) -> None:
    write_sealed(path, {"tokens": tokens(vocab), "special": SPECIAL})


def tokens(vocab: Vocab) -> list[str]:
    """All tokens in the order of their ids."""
    return [vocab.idx_to_token[i] for i in range(len(vocab))]


def load(path: str | Path) -> Vocab:
    """Read vocab.json; MedcapError when it is missing or is not a vocabulary of ours."""
    from paddlenlp.data import Vocab

    content = read_sealed(path, FIX)
    try:
        words, special = content["tokens"], content["special"]
        if len(set(words)) != len(words) or special != SPECIAL or not set(special.values()) <= set(words):
            raise ValueError("tokens repeat, or the special tokens are not ours")
        return Vocab.from_dict({word: i for i, word in enumerate(words)}, **special)
    except (KeyError, TypeError, ValueError) as error:
        raise MedcapError(f"{path} is not a vocabulary ({error}): {FIX}") from error


def encode(vocab: Vocab, report: str, max_length: int = 60) -> list[int]:
    """`<bos>`, the words, `<eos>`, cut to `max_length` ids: a longer report loses its end and its `<eos>`."""
    bos, eos = vocab.to_indices([vocab.bos_token, vocab.eos_token])
    return [bos, *vocab.to_indices(report.split()), eos][:max_length]


def decode(vocab: Vocab, ids: Iterable[int]) -> str:
    """Words up to the first `<eos>`; `<bos>` and `<pad>` are not words."""
    words = []
    for token in vocab.to_tokens(list(ids)):
        if token == vocab.eos_token:
            break
        if token not in (vocab.bos_token, vocab.pad_token):
            words.append(token)
    return " ".join(words)


def coverage(vocab: Vocab, reports: Iterable[str]) -> tuple[float, Counter]:
    """Share of running words that are `<unk>`, and the unknown words counted."""
    words = Counter(word for report in reports for word in report.split())
    unknown = Counter({word: n for word, n in words.items() if word not in vocab})
    return unknown.total() / max(words.total(), 1), unknown
