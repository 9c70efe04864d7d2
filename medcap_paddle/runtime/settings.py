"""Settings from a file: a dataclass whose names and types are checked."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from .files import MedcapError

Kind = TypeVar("Kind")


def for_digest(settings: object) -> dict[str, Any]:
    """The values of a dataclass, for `files.digest`; those in its `LATER` only where they differ from their defaults:
    what was made before a setting existed is not made again.
    """
    later = getattr(settings, "LATER", ())
    return {k: v for k, v in asdict(settings).items() if k not in later or v != getattr(type(settings), k)}


def only(values: dict[str, Any], known: Container[str], where: str | Path) -> None:
    """MedcapError, naming the file `where`, when `values` has a name that is not known."""
    if unknown := sorted(name for name in values if name not in known):
        raise MedcapError(
            f"{where} has unknown settings {', '.join(unknown)}: remove them or use the version that wrote it"
        )


def typed(kind: Callable[..., Kind], values: dict[str, Any], where: str | Path, fix: str) -> Kind:
    """The dataclass `kind` of `values`; MedcapError on an unknown name and on a type that its default does not have.

    A whole number is a float too. `fix` ends the message.
    """
    defaults = asdict(kind())
    only(values, defaults, where)
    for name, value in values.items():
        expected = type(defaults[name])
        if type(value) is not expected and not (expected is float and type(value) is int):
            found = type(value).__name__
            raise MedcapError(f"{where}: expected {name} as {expected.__name__}, got {found} ({value!r}): {fix}")
    return kind(**values)
