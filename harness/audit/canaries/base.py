"""What a canary is: something on the host with a random token in it, for as long as it is entered."""

from __future__ import annotations

import abc
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from pybench.harness.errors import PybenchError

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.place import Place
    from pybench.runtime.journal import Journal


class CannotPlantError(PybenchError):
    """A canary cannot be planted here; probes that need it are not applicable."""

    exit_code = 3


class Tokens:
    """Makes the tokens of one audit, and knows those that were made."""

    def __init__(self) -> None:
        self._prefix = f"pbc-{os.urandom(4).hex()}-"
        self._made: set[str] = set()

    @property
    def shape(self) -> str:
        """A regular expression that this audit's tokens match, and no other audit's."""
        return f"{self._prefix}[0-9a-f]{{24}}"

    def make(self) -> str:
        """A new one."""
        token = self._prefix + os.urandom(12).hex()
        self._made.add(token)
        return token

    def was_made(self, token: str) -> bool:
        """Whether it was ever planted; one that was not cannot have been seen."""
        return token in self._made


class Planting(Protocol):
    """What a canary is given to plant itself with."""

    @property
    def tokens(self) -> Tokens:
        """Where tokens come from."""
        ...

    @property
    def journal(self) -> Journal:
        """Where everything that outlives this process is written down first."""
        ...

    @property
    def place(self) -> Place:
        """A directory of the audit's own on the host."""
        ...


class Canary(abc.ABC):
    """Something planted: a context manager that plants it, and removes it and verifies that."""

    name: ClassVar[str]
    """By which probes ask for it."""

    def __init__(self, planting: Planting) -> None:
        self.planting = planting
        self.tokens: tuple[str, ...] = ()
        """What is to be found."""
        self._removal = ExitStack()

    def token(self) -> str:
        """A new token of this canary's."""
        made = self.planting.tokens.make()
        self.tokens += (made,)
        return made

    @abc.abstractmethod
    def plant(self, removal: ExitStack) -> None:
        """Plant it, each part after its removal was pushed.

        Args:
            removal: undone in reverse order; a callback raises LeftoverError if its part survived.

        Raises:
            CannotPlantError: this host or this user cannot have it.
        """

    def __enter__(self) -> Self:
        with ExitStack() as removal:
            self.plant(removal)
            self._removal = removal.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._removal.close()
