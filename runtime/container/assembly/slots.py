"""The descriptors that steps name by number: some are given to the child, some it fills itself."""

from __future__ import annotations

from pybench.runtime.container.spawn.spawner import LAST_SLOT
from pybench.runtime.errors import InputError


class Slots:
    """Hands out slots, for given descriptors from the first on, for others from the last on."""

    def __init__(self, given: tuple[int, ...] = ()) -> None:
        self._given = list(given)
        self._lowest_taken = LAST_SLOT + 1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to pass to the child."""
        return tuple(self._given)

    def give(self, descriptor: int) -> int:
        """The slot in which the child will find this descriptor."""
        self._given.append(descriptor)
        self._check()
        return len(self._given) - 1

    def take(self) -> int:
        """A slot for a step to fill.

        Raises:
            InputError: there are more mounts than slots.
        """
        self._lowest_taken -= 1
        self._check()
        return self._lowest_taken

    def _check(self) -> None:
        if self._lowest_taken < len(self._given):
            raise InputError(f"mounts: a container can have about {LAST_SLOT - 8} of them")
