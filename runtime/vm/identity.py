"""What makes a restored guest one of its own: no two of them may share it."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

_SEED_BYTES: Final = 32  # SEED_BYTES of renew.c
_HOST_NAME_MAXIMUM: Final = 63
_SUFFIX_BYTES: Final = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """Names of one guest; its card's MAC and IPv4 interface address are empty without a network."""

    host_name: str
    machine_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    hardware_address: str = ""
    address: str = ""

    @classmethod
    def fresh(cls, base: str, hardware_address: str = "", address: str = "") -> Identity:
        """A new one, whose host name begins with `base`."""
        suffix = f"-{os.urandom(_SUFFIX_BYTES).hex()}"
        name = base[: _HOST_NAME_MAXIMUM - len(suffix)] + suffix
        return cls(name, hardware_address=hardware_address, address=address)

    def order(self) -> str:
        """What init is told, with a seed for its random numbers and the time of this very moment.

        The host's generator gives the seed; nobody keeps it.
        """
        seed = os.urandom(_SEED_BYTES).hex()
        network = f"{self.hardware_address or '-'} {self.address or '-'}"
        return f"renew {seed} {time.time_ns()} {self.host_name} {self.machine_id} {self.boot_id} {network}"
