"""A local copy of what goes to a database server, so that a server that goes away loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pybench.harness.errors import PybenchError

if TYPE_CHECKING:
    from types import TracebackType

    from pybench.harness.model import Conditions, Run, RunStatus, Sample
    from pybench.harness.store.record import Store

SPOOL: Final = "spool.sqlite"
"""The file in the results folder that keeps what a server has not got yet."""


class SpooledStore:
    """Records on this host first and on the server next; what the server misses stays here.

    The run that is being recorded is read from the local copy, so its report can be drawn without the server.

    Args:
        server: the store that is to have everything in the end.
        spool: a local store; a run leaves it once the server has all of it.
        on_loss: is told, once, why the server gets no more.
    """

    def __init__(self, server: Store, spool: Store, on_loss: Callable[[PybenchError], None]) -> None:
        self._server = server
        self._spool = spool
        self._on_loss = on_loss
        self._lost = False
        self._finished: list[str] = []
        self.place = server.place

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both; forget locally what the server has."""
        try:
            if not self._lost:
                self._spool.remove_runs(self._finished)
        finally:
            self._spool.close()
            self._server.close()

    def begin_run(self, run: Run) -> None:
        """Record that a run has begun; if the server does not answer now, nothing is to be measured."""
        self._server.begin_run(run)
        self._spool.begin_run(run)

    def add_samples(
        self, run_id: str, samples: Sequence[Sample], conditions: Conditions | None = None
    ) -> None:
        """Commit the samples of a step and its conditions; they are on this host's disk when this returns."""
        self._spool.add_samples(run_id, samples, conditions)
        self._forward(lambda: self._server.add_samples(run_id, samples, conditions))

    def finish_run(self, run_id: str, status: RunStatus, finished: str) -> None:
        """Record how and when a run ended."""
        self._spool.finish_run(run_id, status, finished)
        self._forward(lambda: self._server.finish_run(run_id, status, finished))
        self._finished.append(run_id)

    @property
    def earlier(self) -> Store:
        """Where the runs before this session are."""
        return self._server

    def run(self, name: str) -> Run:
        """One run of this session, as recorded here."""
        return self._spool.run(name)

    def samples(self, run_id: str) -> list[Sample]:
        """The samples of a run of this session, as recorded here."""
        return self._spool.samples(run_id)

    def conditions(self, run_id: str) -> list[Conditions]:
        """The conditions of the steps of a run of this session, as recorded here."""
        return self._spool.conditions(run_id)

    def _forward(self, deliver: Callable[[], None]) -> None:
        if self._lost:
            return
        try:
            deliver()
        except PybenchError as error:
            # The samples that follow must not leave a gap on the server, so it gets none until `deliver_all`.
            self._lost = True
            self._on_loss(error)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One run that was delivered."""

    run: str
    samples: int
    """Those that the server had not had."""


def deliver_all(spool: Store, server: Store, on_delivery: Callable[[Delivery], None]) -> int:
    """Deliver every run of the spool that is not going on; returns how many are left, being recorded now.

    Repeating it is safe: what the server has is not stored twice, and a run leaves the spool after
    the server has committed all of it.

    Raises:
        HostError: the server cannot be reached; what was not delivered stays in the spool.
    """
    left = 0
    for run in spool.runs():
        if run.status == "running":
            left += 1
            continue
        added = server.put_run(run, spool.samples(run.id), spool.conditions(run.id))
        spool.remove_runs([run.id])
        on_delivery(Delivery(run.id, added))
    return left
