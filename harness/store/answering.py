"""A connection to PostgreSQL that gives up a server which says nothing any more.

Neither the kernel's nor the server's own timeouts end a wait for one that is frozen: its kernel still takes
what is sent and answers keep-alives, and a local socket has no timeouts at all.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

LOOKS_PER_SECOND: Final = 10
_Result = TypeVar("_Result")

# What the driver logs beside its errors would be printed by Python's last resort.
logging.getLogger(psycopg.__name__).addHandler(logging.NullHandler())


class AnsweringConnection(psycopg.Connection[Any]):
    """Closes itself, with an error, after a silence that is longer than its patience."""

    patience: float | None = None
    """Seconds of silence within one exchange with the server; None is for ever."""
    _given_up = False

    def wait(self, gen: PQGen[_Result], *_arguments: Any, **_options: Any) -> _Result:  # noqa: ANN401 - the driver's
        """Carry out one exchange with the server.

        Raises:
            psycopg.OperationalError: the server was silent for too long; the connection is closed.
        """
        if self._given_up:
            # What is cleared up after the first such error is not to hide its reason.
            raise self._silence()
        return super().wait(self._heard(gen), 1 / LOOKS_PER_SECOND)

    def _heard(self, exchange: PQGen[_Result]) -> Generator[Any, Any, _Result]:
        # Looks are counted and not the clock: this process may have been stopped itself.
        silent = 0
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                silent = 0 if ready else silent + 1
                if self.patience is not None and silent > self.patience * LOOKS_PER_SECOND:
                    # Its answer, should it come, would be taken for that to the next statement.
                    self._given_up = True
                    self.close()
                    raise self._silence()
                wanted = exchange.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result

    def _silence(self) -> psycopg.OperationalError:
        return psycopg.OperationalError(f"no answer for {self.patience:g} s")
