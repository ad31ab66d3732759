"""Steps about the process itself: what it joins, its terminal, its program, and when it may go on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pybench.runtime.container.spawn import _spawn
from pybench.runtime.container.spawn.steps import EncodedStep


@dataclass(frozen=True, slots=True)
class Join:
    """Enter namespaces of the process whose pidfd is in a slot; only a detached child can."""

    slot: int
    namespaces: int
    """CLONE_NEW… flags."""

    def encode(self) -> EncodedStep:
        return (_spawn.JOIN, self.slot, self.namespaces)

    def describe(self) -> str:
        return f"setns with the flags {self.namespaces:#x}"


@dataclass(frozen=True, slots=True)
class Console:
    """Make a terminal of the container's own devpts input, output and errors; send the master away."""

    slot: int
    """A connected Unix socket."""
    rows: int = 0
    columns: int = 0
    at_dev_console: bool = True
    owner: int = 0

    def encode(self) -> EncodedStep:
        size = (self.rows, self.columns)
        return (_spawn.CONSOLE, self.slot, *size, int(self.at_dev_console), self.owner)

    def describe(self) -> str:
        return "open a terminal of /dev/pts/ptmx"


@dataclass(frozen=True, slots=True)
class FindProgram:
    """Execute the first of these files that is there, instead of the program's path."""

    candidates: tuple[str, ...]

    def encode(self) -> EncodedStep:
        return (_spawn.PROGRAM, b"".join(os.fsencode(path) + b"\0" for path in self.candidates))

    def describe(self) -> str:
        return f"execve {', '.join(self.candidates)}"


@dataclass(frozen=True, slots=True)
class WaitForStart:
    """Say through one pipe that the sandbox is made, and wait for a byte from another one.

    From then on a failure is told through the third, by the index of the step and the error number, as two
    32-bit integers.
    """

    created: int
    start: int
    failed: int

    def encode(self) -> EncodedStep:
        return (_spawn.WAIT_FOR_START, self.created, self.start, self.failed)

    def describe(self) -> str:
        return "wait to be started"


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run a program to its end before going on; its input is the file in a slot."""

    slot: int
    path: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()
    timeout: int = 0
    """Seconds; 0: no limit."""

    def encode(self) -> EncodedStep:
        words = (self.arguments or (self.path,), self.environment)
        texts = (b"".join(os.fsencode(word) + b"\0" for word in part) for part in words)
        return (_spawn.HOOK, self.slot, self.timeout, os.fsencode(self.path), *texts)

    def describe(self) -> str:
        return f"run the hook {self.path}"


@dataclass(frozen=True, slots=True)
class SystemCall:
    """Make one system call, for what needs no step of its own; texts are passed as pointers."""

    name: str
    number: int
    arguments: tuple[int | bytes, ...]

    def encode(self) -> EncodedStep:
        texts = sum(1 << place for place, value in enumerate(self.arguments) if isinstance(value, bytes))
        numbers = (0 if isinstance(value, bytes) else value for value in self.arguments)
        pointed = (value for value in self.arguments if isinstance(value, bytes))
        return (_spawn.CALL, self.number, texts, *numbers, *pointed)

    def describe(self) -> str:
        return self.name
