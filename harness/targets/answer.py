"""Readiness over the network: the first connection that a workload accepts, or the first request it answers.

Nothing can push this instant to the harness: only a client learns that a server answers, by asking. So
it is asked again and again, at a spacing that is a small share of the time that has passed. Asked at another
moment since the last refusal, it would have answered earlier by no more than the time from that refusal
to the question that it answered; that is the mark's resolution.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from pybench.harness.errors import InstanceError
from pybench.harness.model import Mark, Readiness
from pybench.runtime.container.system_calls import exact_timers

ASKED_LEVELS: Final = frozenset({"tcp", "http"})
SPACING: Final = 0.004
"""Share of the time since the request between two attempts: the error stays below 1 % of the value."""
SHORTEST_SPACING: Final = 2e-5
LONGEST_SPACING: Final = 5e-3
ATTEMPT_TIMEOUT: Final = 1.0
LONGEST_HEAD: Final = 4096
"""Bytes of an answer that are looked at for its status line."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


@dataclass(frozen=True, slots=True)
class RefusedError(Exception):
    """An attempt that the workload did not answer as it must."""

    problem: str


def is_taken(readiness: Readiness, address: str) -> bool:
    """Whether somebody listens there already, who would be taken for the workload once it is started."""
    try:
        with closing(_connected(readiness, address)):
            return True
    except RefusedError:
        return False


def check_free(readiness: Readiness, address: str) -> None:
    """Raise if a port that no instance has yet answers.

    Raises:
        InstanceError: something listens there.
    """
    if is_taken(readiness, address):
        raise InstanceError(
            f"port {readiness.port} of {address} answers before the workload was started",
            "end whatever listens there, or choose another port",
        )


def await_answer(
    readiness: Readiness, address: str, marks: list[Mark], timeout: float, has_ended: Callable[[], bool]
) -> None:
    """Ask until the workload answers, and put the answer in the place of the last mark, `ready`.

    Args:
        readiness: the level `tcp` or `http`, with its port.
        address: an IPv4 address of the instance.
        marks: those of the launch, from `request` to a `ready` that says no more than `exec`.
        timeout: seconds from the request.
        has_ended: whether the workload has ended.

    Raises:
        InstanceError: it has ended, or did not answer in time.
    """
    requested_at, refused_at = next(mark.at for mark in marks if mark.name == "request"), marks[-1].at
    deadline = requested_at + round(timeout * 1e9)
    problem = "it was not asked"
    with exact_timers():
        while (asked_at := time.monotonic_ns()) < deadline:
            try:
                ask(readiness, address)
            except RefusedError as refusal:
                problem, refused_at = refusal.problem, time.monotonic_ns()
            else:
                answered_at = time.monotonic_ns()
                channel = f"{readiness.level}-answer"
                marks[-1] = Mark("ready", answered_at, channel, (asked_at - refused_at) / 1e9)
                return
            if has_ended():
                raise InstanceError(f"ended before it answered on port {readiness.port}: {problem}")
            spacing = SPACING * (refused_at - requested_at) / 1e9
            time.sleep(min(max(spacing, SHORTEST_SPACING), LONGEST_SPACING))
    hint = "raise schedule.ready_timeout, or correct the workload's readiness"
    raise InstanceError(f"not ready after {timeout:g} s: port {readiness.port}: {problem}", hint)


def _connected(readiness: Readiness, address: str) -> socket.socket:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(ATTEMPT_TIMEOUT)
        connection.connect((address, readiness.port))
    except OSError as error:
        connection.close()
        raise RefusedError(error.strerror or str(error)) from error
    return connection


def ask(readiness: Readiness, address: str) -> None:
    """Ask once.

    Raises:
        RefusedError: it does not answer as it must.
    """
    with closing(_connected(readiness, address)) as connection:
        if readiness.level == "tcp":
            return
        request = f"GET {readiness.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        head = b""
        try:
            connection.sendall(request.encode("ascii"))
            while b"\n" not in head and len(head) < LONGEST_HEAD:
                data = connection.recv(LONGEST_HEAD)
                if not data:
                    break
                head += data
        except OSError as error:
            raise RefusedError(error.strerror or str(error)) from error
    match = _STATUS_LINE.match(head)
    if match is None:
        raise RefusedError("it did not answer in HTTP")
    if int(match[1]) != readiness.status:
        raise RefusedError(f"it answered with status {int(match[1])}")
