"""Heart and lungs of the films of a page, by the network that is shipped: see `vision.measure`."""

from __future__ import annotations

from collections.abc import Sequence

from ..vision import measure, segmenter_run
from ..vision.measure import Measured
from .films import Film, png
from .reading import turn

KEYS = {"enlarged": "heart_enlarged", "normal": "heart_normal", "near": "heart_near", "ap": "heart_ap"}


def hearts(films: Sequence[Film], run: segmenter_run.Run) -> list[Measured]:
    """What is measured of each film, or why nothing is."""
    with turn(), segmenter_run.drawer(run, len(films)) as draw:
        return [measure.of(film.name, film.pixels, draw, film.drawn, film.view) for film in films]


def picture(film: Measured) -> bytes:
    """A PNG of the film with the borders of its masks."""
    return png(measure.picture(film.pixels, film.masks, film.anatomy))


def told(film: Measured) -> tuple[str, dict[str, object]]:
    """A key of `words`, and what it says of the film."""
    if not film.anatomy:
        return "heart_unmeasured", {"reason": film.reason}
    return KEYS[film.judged], {"ratio": film.anatomy.ratio, "share": film.anatomy.right_share}
