"""What is kept of each step beside its samples: what the harness and the host did meanwhile.

The names of `Conditions.values` and their units. What the host does not tell is left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pybench.harness.model import Conditions

STEP_SECONDS: Final = "step"
"""Seconds of the whole step until its samples are stored: waiting, launch, measurement, teardown."""
WAITED_SECONDS: Final = "waited"
"""Seconds of waiting for the host to settle."""
UNSETTLED: Final = "unsettled"
"""1 where the host had not settled when the wait was over, else 0."""
OWN_SECONDS: Final = "own"
"""Seconds of the harness's own work since the end of the instance before, without waiting."""
LAUNCH_SECONDS: Final = "launch"
"""Seconds from calling the target until the instance was ready."""
HARNESS_CPU: Final = "harness.cpu"
"""Processor seconds of the harness from the request until the instance had been measured."""
MEASURED_SECONDS: Final = "measured"
"""Seconds from the request until the instance had been measured."""
STEAL: Final = "steal"
"""Share of processor time that the hypervisor gave to others since the step before."""
BUSY: Final = "busy"
"""Share of processor time that was not idle since the step before, on the whole host."""
FREQUENCY: Final = "frequency"
"""Mean of the processors' clocks in Hz."""
PACE: Final = "pace"
"""Seconds that a hundred of the cheapest system call took right before the launch: more on a slower host."""
RUNNING: Final = "running"
"""Tasks that were runnable before the launch, the harness not counted."""
PRESSURE: Final = "pressure"
"""Share of the last ten seconds in which some task waited for a processor."""
PAGE_CACHE: Final = "page-cache"
"""Bytes of cached file pages."""
AVAILABLE: Final = "available"
"""Bytes of memory that could be had without swapping."""
TEMPERATURE: Final = "temperature"
"""Degrees Celsius of the hottest sensor that can be read."""

_MOST_BYTES: Final = 1 << 16
_KIBIBYTE: Final = 1024
_STEAL_FIELD: Final = 7
_IDLE_FIELDS: Final = (3, 4)
"""Positions in the line `cpu` of /proc/stat: idle, iowait (proc_stat(5))."""
_TIME_FIELDS: Final = 8
"""user to steal; guest time, which follows, is part of user time already."""


def paces(conditions: Iterable[Conditions]) -> list[float]:
    """The host's pace before each launch of which it is known, in seconds."""
    return [each.values[PACE] for each in conditions if PACE in each.values]


class HostObserver:
    """Reads the host's state in some tens of microseconds: its files are opened once and read again."""

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()
        self._stat = self._open("/proc/stat")
        self._load = self._open("/proc/loadavg")
        self._memory = self._open("/proc/meminfo")
        self._pressure = self._open("/proc/pressure/cpu")
        self._clocks = [self._open(str(path)) for path in _clock_files()]
        self._cpuinfo = -1 if self._clocks else self._open("/proc/cpuinfo")
        self._sensors = [self._open(str(path)) for path in Path("/sys/class/thermal").glob("*/temp")]
        self._before = self._times()

    def __enter__(self) -> Self:
        """The observer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._resources.close()

    def running(self) -> int | None:
        """Runnable tasks of the host, without the one that asks (proc_loadavg(5))."""
        fields = _read(self._load).split()
        return max(0, int(fields[3].partition(b"/")[0]) - 1) if len(fields) > 3 else None  # noqa: PLR2004

    def pressure(self) -> float | None:
        """Share of the last ten seconds in which some task waited for a processor (psi.rst)."""
        for word in _read(self._pressure).split():
            if word.startswith(b"avg10="):
                return float(word.removeprefix(b"avg10=")) / 100
        return None

    def temperature(self) -> float | None:
        """Degrees Celsius of the hottest sensor."""
        values = [text for text in map(_read, self._sensors) if text.strip().lstrip(b"-").isdigit()]
        return max((int(value) / 1000 for value in values), default=None)

    def observe(self) -> dict[str, float]:
        """Everything that is told; shares are of the time since the last call."""
        values = {RUNNING: self.running(), PRESSURE: self.pressure(), TEMPERATURE: self.temperature()}
        found = {name: float(value) for name, value in values.items() if value is not None}
        return {**found, **self._shares(), **self._frequency(), **self._pages()}

    def _open(self, path: str) -> int:
        """A descriptor, or -1 where the host has no such file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        self._resources.callback(os.close, descriptor)
        return descriptor

    def _times(self) -> list[int]:
        line = _read(self._stat).split(b"\n", 1)[0].split()
        return [int(field) for field in line[1 : _TIME_FIELDS + 1]]

    def _shares(self) -> dict[str, float]:
        before, self._before = self._before, self._times()
        spent = [now - then for now, then in zip(self._before, before, strict=False)]
        total = sum(spent)
        if len(spent) < _TIME_FIELDS or total <= 0:
            return {}
        idle = sum(spent[field] for field in _IDLE_FIELDS)
        return {STEAL: spent[_STEAL_FIELD] / total, BUSY: (total - idle) / total}

    def _frequency(self) -> dict[str, float]:
        clocks = [int(text) * 1e3 for text in map(_read, self._clocks) if text.strip().isdigit()]
        if not clocks:
            lines = [line for line in _read(self._cpuinfo).split(b"\n") if line.startswith(b"cpu MHz")]
            clocks = [float(line.partition(b":")[2]) * 1e6 for line in lines]
        return {FREQUENCY: sum(clocks) / len(clocks)} if clocks else {}

    def _pages(self) -> dict[str, float]:
        found = {}
        for line in _read(self._memory).split(b"\n"):
            name, _, value = line.partition(b":")
            if name in _PAGES:
                found[_PAGES[name]] = float(value.split()[0]) * _KIBIBYTE
        return found


_PAGES: Final = {b"Cached": PAGE_CACHE, b"MemAvailable": AVAILABLE}


def _clock_files() -> list[Path]:
    return sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))


def _read(descriptor: int) -> bytes:
    """The file from its beginning; nothing where there is none or it cannot be read now."""
    if descriptor < 0:
        return b""
    try:
        return os.pread(descriptor, _MOST_BYTES, 0)
    except OSError:
        return b""
