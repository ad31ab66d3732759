"""The errors every layer raises; the command line turns them into one line, a hint and an exit code.

They live in the lowest layer because `runtime` may import nothing above it;
`pybench.harness.errors` is where the upper layers take them from.
"""

from __future__ import annotations

from typing import ClassVar


class PybenchError(Exception):
    """Something a user can understand and act on.

    `message` names the file, key, target or system call that failed;
    `hint` says what to do about it and may be empty.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(PybenchError):
    """Bad usage or bad input: a file, key, value, image or run that does not make sense."""

    exit_code = 2


class HostError(PybenchError):
    """This host cannot do it; the hint is the command that installs or enables what is missing."""

    exit_code = 3


class InstanceError(PybenchError):
    """One instance failed to start, to become ready or to stop; recorded as a failed sample.

    `log` holds the last lines of the instance's own output, already bounded and escaped.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


class LeftoverError(PybenchError):
    """Teardown was verified and something survived it."""

    exit_code = 1
