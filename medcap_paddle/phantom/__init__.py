"""The phantom: drawings from findings (`draw`), their masks (`anatomy`), and collections of them (`make`, `redraw`,
`pneumothorax.make`).
"""

from importlib import import_module


def __getattr__(name: str):
    """`make` and `redraw` come with `collection`, which drawing alone does not need."""
    if name in ("make", "redraw"):
        return getattr(import_module(".collection", __name__), name)
    if name in ("anatomy", "collection", "draw", "pneumothorax"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
