"""The decoders by name. Another one is another entry: `DECODERS["gru"] = GRUCaptioner` (docs/extend.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import paddle

from ..runtime.files import MedcapError
from . import memory
from .attention_lstm import AttentionLSTM
from .decoder import Decoder, DecoderSettings
from .knowledge import GraphTransformer, KnowledgeTransformer, RetrievalTransformer
from .lstm import LSTMCaptioner
from .memory import Memory
from .transformer import TransformerCaptioner

DECODERS: dict[str, type[Decoder]] = {  # the first is the default
    "lstm": LSTMCaptioner,
    "attention_lstm": AttentionLSTM,
    "transformer": TransformerCaptioner,
    "transformer_retrieval": RetrievalTransformer,
    "transformer_graph": GraphTransformer,
    "knowledge": KnowledgeTransformer,
}


def settings_of(name: object, where: str | Path) -> type[DecoderSettings]:
    """The settings of a decoder; MedcapError, naming the file `where`, when no decoder has that name."""
    if name not in DECODERS:
        known = ", ".join(DECODERS)
        raise MedcapError(f"{where}: no decoder is called {name!r}: choose {known}, or run 04_train.ipynb")
    return DECODERS[name].Settings


def name_of(settings: DecoderSettings) -> str:
    """The decoder that `settings` are of; KeyError when it is not in DECODERS."""
    return {decoder.Settings: name for name, decoder in DECODERS.items()}[type(settings)]


def reads(settings: DecoderSettings) -> tuple[str, ...]:
    """The inputs that the decoder of `settings` needs."""
    return DECODERS[name_of(settings)].reads


def recall(folder: str | Path, settings: DecoderSettings, features: str = "", run: dict | None = None) -> Memory | None:
    """`Memory.load`; None where the decoder of these settings reads nothing of it."""
    return Memory.load(folder, features, run) if {*reads(settings)} & {*memory.INPUTS} else None


def build(settings: DecoderSettings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int, seed: int = 0) -> Decoder:
    """A freshly initialised decoder; the same seed gives the same weights."""
    paddle.seed(seed)
    return DECODERS[name_of(settings)](settings, shapes, vocab_size)
