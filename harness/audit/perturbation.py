"""Making the host busy in a rhythm that nobody else knows, and finding that rhythm in what a guest has read.

A child of the harness is busy or idle in one slot of time after the other, by lot, and writes down when. The
guest reads figures again and again; where one of them belongs to the host, it follows the slots. The guest's
clock is not compared with the host's: every shift between them is tried.

The lot does not know the figures. So for any figures, however they are correlated in time, the sum over the
slots of c·x, where x is the lot's sign and c what the figures say of the slot, exceeds z times the root of
the sum of c² with a probability of at most 2·exp(-z²/2) (Hoeffding, Probability inequalities for sums of
bounded random variables, 1963, theorem 2). Divided among all shifts and figures (Bonferroni), this bounds how
often an audit finds what is not there.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import LeftoverError

if TYPE_CHECKING:
    import numpy as np

    from pybench.harness.audit.observation import Ground

SLOT_SECONDS: Final = 0.012
READINGS: Final = 160
PACE_SECONDS: Final = 0.010
FALSE_ALARM: Final = 1e-5
"""How probable it may be that any figure of a guest seems to follow the host's work by chance."""
_RESOLUTION: Final = 0.005
"""Seconds between the shifts that are tried."""
_NEIGHBOURS: Final = 20
"""Readings on either side with whose midhinge, the middle between their quartiles, one is compared."""
_SLOTS: Final = 16384
"""Drawn ahead; then the worker ends by itself."""

_WORK: Final = """
import os, resource, socket, sys, time
order, slot, parent = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
try:
    os.nice(-15)
except OSError:
    pass
held, began = [], time.monotonic()
memory = os.memfd_create("pybench", os.MFD_CLOEXEC)
for number, bit in enumerate(order):
    if os.getppid() != parent:
        break
    if bit == "1" and not held:
        os.posix_fallocate(memory, 0, 2 << 20)
        held = [os.memfd_create("pybench", os.MFD_CLOEXEC) for _ in range(100)]
        held += [os.eventfd(0) for _ in range(200)]
        held += [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach() for _ in range(100)]
    elif bit == "0" and held:
        os.ftruncate(memory, 0)
        for each in held:
            os.close(each)
        held = []
    os.write(1, b"%.4f %s\\n" % (time.monotonic(), bit.encode()))
    time.sleep(max(0.002, began + (number + 1) * slot - time.monotonic()))
"""
"""Two MiB of shared memory, 200 inodes, of which 100 are sockets, and 400 open files, or none; quickly made,
so that most readings are of one or the other.

It does not spin: whoever watches would be held up by that, and so figures of his own would follow the host's
work, even those of a guest's own kernel. To make and remove all this takes time enough to be counted."""


@dataclass(slots=True)
class Perturbation:
    """What was done when."""

    began: list[float] = field(default_factory=list)
    """When each slot's state was reached, by the host's monotonic clock."""
    busy: list[bool] = field(default_factory=list)

    def scores(
        self, times: Sequence[float], series: Mapping[str, Sequence[float]]
    ) -> tuple[dict[str, float], float]:
        """How closely a guest's readings follow the slots.

        Args:
            times: of the readings, by the guest's clock, ascending.
            series: figures by name, one for each reading.

        Returns:
            The highest score of each over all shifts, of the figures or of their changes; and the score that
            chance does not reach.
        """
        import numpy as np  # noqa: PLC0415 - slow to import

        if not times or len(self.began) < 2:  # noqa: PLR2004 - nothing was done
            return dict.fromkeys(series, 0.0), math.inf
        moments, starts = np.asarray(times) - times[0], np.asarray(self.began)
        shifts = np.arange(starts[0], starts[-1] - moments[-1], _RESOLUTION)
        if not len(shifts):
            return dict.fromkeys(series, 0.0), math.inf
        bound = math.sqrt(2 * math.log(2 * 2 * len(series) * len(shifts) / FALSE_ALARM))
        slots = np.searchsorted(starts, shifts[:, None] + moments[None, :], side="right") - 1
        figures = np.asarray(list(series.values()), dtype=float)
        changes = np.diff(figures, axis=1, prepend=figures[:, :1])
        told = np.asarray([_signs(each) for each in (*figures, *changes)]).T
        drawn, best = np.where(self.busy, 1.0, -1.0), np.zeros(told.shape[1])
        for row in slots:
            best = np.maximum(best, _score(row, drawn, told))
        highest = best.reshape(2, len(figures)).max(axis=0)
        return {name: float(score) for name, score in zip(series, highest, strict=True)}, bound


def _score(slots: np.ndarray, drawn: np.ndarray, told: np.ndarray) -> np.ndarray:
    """The sum over the slots of their lot and what the readings in them say, in units of its deviation.

    Args:
        slots: for each reading the number of the slot it was in, ascending.
        drawn: 1 or -1 for each slot.
        told: 1, 0 or -1 for each reading and series.

    Returns:
        For each series, without its sign.
    """
    import numpy as np  # noqa: PLC0415 - slow to import

    first = np.flatnonzero(np.diff(slots, prepend=-1))
    # Each slot counts once, however many readings are in it: where the worker was held up there are many.
    said = np.clip(np.add.reduceat(told, first, axis=0), -1, 1)
    deviation = np.sqrt(np.maximum((said**2).sum(axis=0), 1.0))
    return np.asarray(np.abs(drawn[slots[first]] @ said) / deviation)


def _signs(series: np.ndarray) -> np.ndarray:
    """Whether each is above or below the middle of its neighbours: neither outliers nor drift weigh."""
    import numpy as np  # noqa: PLC0415 - slow to import

    padded = np.pad(series, _NEIGHBOURS, mode="reflect") if len(series) > _NEIGHBOURS else series
    if len(padded) == len(series):
        return np.zeros(len(series))
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)
    middle = np.quantile(near, (0.25, 0.75), axis=1).mean(axis=0)
    return np.asarray(np.sign(series - middle))


@contextlib.contextmanager
def perturb(_ground: Ground) -> Iterator[Perturbation]:
    """Make the host busy by lot until it is left; what was done is known from then on."""
    generator, done = random.SystemRandom(), Perturbation()
    order = "".join(generator.choice("01") for _ in range(_SLOTS))
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WORK, order, str(SLOT_SECONDS), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.DEVNULL,
        )
        # What judges takes a third of a second to import, in which the guest looks at other things.
        threading.Thread(target=importlib.import_module, args=("numpy",), daemon=True).start()
        try:
            yield done
        finally:
            worker.kill()
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired as error:
                raise LeftoverError(f"the process {worker.pid} survived SIGKILL") from error
            log.seek(0)
            for line in log.read().decode("ascii").splitlines():
                at, _, bit = line.partition(" ")
                if bit:
                    done.began.append(float(at))
                    done.busy.append(bit == "1")
