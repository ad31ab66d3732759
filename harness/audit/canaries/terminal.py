"""A terminal that the harness holds open and inheritable, like that of an operator."""

from __future__ import annotations

import contextlib
import os
import termios
from typing import TYPE_CHECKING

from pybench.harness.audit.canaries.base import Canary, CannotPlantError

if TYPE_CHECKING:
    from contextlib import ExitStack


class TerminalCanary(Canary):
    """A pseudo-terminal; what is pushed into it with TIOCSTI can be read from its master."""

    name = "terminal"

    def plant(self, removal: ExitStack) -> None:
        """Open it."""
        try:
            self.master, self.slave = os.openpty()
        except OSError as error:
            raise CannotPlantError(f"there is no pseudo-terminal left: {error.strerror}") from error
        removal.callback(os.close, self.master)
        removal.callback(os.close, self.slave)
        os.set_blocking(self.master, False)
        os.set_inheritable(self.slave, True)
        found = os.fstat(self.slave)
        self.identity = f"{found.st_dev}:{found.st_ino}"
        settings = termios.tcgetattr(self.slave)
        settings[3] |= termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)

    def echoed(self) -> bytes:
        """What was pushed into it since it was last asked."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.master, 256)
        return b""
