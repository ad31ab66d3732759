"""All probes, in the order of their categories, and how users choose among them."""

from __future__ import annotations

import difflib
import functools
import importlib.util
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pybench.harness.audit.model import CATEGORIES
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.audit.model import Probe

TITLES = {
    "pid": "Processes",
    "uid": "Users",
    "network": "Network",
    "filesystem": "File systems",
    "ipc": "IPC, host name and keys",
    "limits": "Control groups and limits",
    "time_and_kernel": "Time and kernel",
    "information": "Information and co-residency",
    "devices": "Devices and privilege",
    "descriptors": "Descriptors, environment and escape",
    "machine": "Virtual machines",
}
"""Category → what people call it."""


@functools.cache
def catalogue() -> tuple[Probe, ...]:
    """Every probe; each category is the tuple `PROBES` of its module in `pybench.harness.audit.probes`."""
    found: list[Probe] = []
    for category in CATEGORIES:
        name = f"pybench.harness.audit.probes.{category}"
        if importlib.util.find_spec(name):
            found += importlib.import_module(name).PROBES
    return tuple(found)


def find(name: str) -> Probe:
    """The probe of an id, in whichever case.

    Raises:
        InputError: there is none.
    """
    probes = {probe.id: probe for probe in catalogue()}
    if name.upper() not in probes:
        raise InputError(
            f"there is no probe {name!r}{_nearest(name.upper(), probes)}", "`pybench audit list`"
        )
    return probes[name.upper()]


def choose(names: Sequence[str] = (), categories: Sequence[str] = ()) -> tuple[Probe, ...]:
    """The probes of some ids and those of some categories, in the catalogue's order; all if none is named.

    Raises:
        InputError: there is no such probe or category.
    """
    for category in categories:
        if category not in CATEGORIES:
            raise InputError(
                f"there is no category {category!r}{_nearest(category, CATEGORIES)}",
                f"known are {', '.join(CATEGORIES)}",
            )
    wanted = {find(name).id for name in names}
    if not names and not categories:
        return catalogue()
    return tuple(probe for probe in catalogue() if probe.id in wanted or probe.category in categories)


def _nearest(name: str, known: Collection[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
