"""One colour and one marker per target, the same in every figure and table.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), told apart with every common
kind of colour blindness; each has a shade for light and one for dark paper, so that both reach a
contrast of 3:1 (WCAG 2.2, 1.4.11). The marker is a second way to tell targets apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybench.reports.vocabulary import target_order


@dataclass(frozen=True, slots=True)
class Ink:
    """How a target is drawn: `light` and `dark` are for light and dark paper, `marker` is plotly's name."""

    light: str
    dark: str
    marker: str


GREY = Ink("#6e7074", "#a3a7ad", "pentagon")
BLUE = Ink("#0072b2", "#56b4e9", "circle")
GREEN = Ink("#008763", "#00b386", "square")
VERMILLION = Ink("#d25a00", "#ef7f3b", "diamond")
ORANGE = Ink("#b07400", "#e69f00", "triangle-up")
PURPLE = Ink("#b0558d", "#cc79a7", "triangle-down")
YELLOW = Ink("#8a7e00", "#f0e442", "cross")
BLACK = Ink("#1d1f21", "#eceef0", "star")
VEIL = Ink("rgba(255,255,255,0.8)", "rgba(21,23,26,0.8)", "")
"""Paper behind a name that stands over a line."""

FIXED = {
    "process": BLUE,
    "floor": GREY,
    "chroot": PURPLE,
    "container": GREEN,
    "vm": VERMILLION,
    "vm-restore": ORANGE,
    "docker": YELLOW,
    "podman": BLACK,
}
"""The targets that every report may hold keep their colour across reports."""

OTHERS = (PURPLE, YELLOW, ORANGE, BLACK, BLUE, GREEN, VERMILLION, GREY)
OTHER_MARKERS = ("hexagon2", "hexagon", "star-diamond", "hourglass", "bowtie", "x", "hexagram", "star-square")


def inks(targets: Iterable[str]) -> dict[str, Ink]:
    """An ink for each target; one that is not in `FIXED` takes the next hue not yet in use."""
    names = sorted(set(targets), key=target_order)
    chosen = {name: FIXED[name] for name in names if name in FIXED}
    used = set(chosen.values())
    free = [ink for ink in OTHERS if ink not in used]
    pool = free + [ink for ink in OTHERS if ink in used]
    for position, name in enumerate(name for name in names if name not in FIXED):
        hue = pool[position % len(pool)]
        marker = hue.marker if position < len(free) else OTHER_MARKERS[position % len(OTHER_MARKERS)]
        chosen[name] = Ink(hue.light, hue.dark, marker)
    return chosen
