"""Commands on a container that exists: start, signal, pause, resume, delete, and what it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.detect import open_group
from pybench.runtime.container.cgroup.placement import remove_placed
from pybench.runtime.container.lifecycle.record import (
    FAILED_FIFO,
    START_FIFO,
    ContainerDirectory,
    Record,
    Status,
    unpack_failure,
)
from pybench.runtime.errors import HostError, InputError, InstanceError, LeftoverError, PybenchError

KILL_PATIENCE: Final = 10.0
_RECORD_BYTES: Final = 8


def start(directory: ContainerDirectory) -> tuple[str, ...]:
    """Let the program of a created container run; returns once it does.

    Returns:
        Warnings: poststart hooks that failed.

    Raises:
        InputError: it is not waiting to be started.
        InstanceError: its program could not be executed, or a hook inside failed.
    """
    with directory.locked():
        record = _expect(directory, "start", "created")
        path = directory.path
        failed = os.open(path / FAILED_FIFO, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _say_go(directory)
            poll = select.poll()
            poll.register(failed, select.POLLIN)
            # Its end of the pipe is closed by execve, or by its death.
            poll.poll()
            failure = unpack_failure(_read(failed))
        finally:
            os.close(failed)
        (path / START_FIFO).unlink()
        (path / FAILED_FIFO).unlink()
        if failure is not None:
            raise InstanceError(_explain(record, *failure))
        return _run_later_hooks(directory, record, directory.state(record), "poststart")


def _say_go(directory: ContainerDirectory) -> None:
    try:
        descriptor = os.open(directory.path / START_FIFO, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # ENXIO: nobody reads any more.
        raise InstanceError(f"container {directory.id} has just ended: {error.strerror}") from error
    try:
        os.write(descriptor, b"\0")
    finally:
        os.close(descriptor)


def send_signal(directory: ContainerDirectory, number: int, *, everybody: bool = False) -> None:
    """Signal the first process of a container, or all of them.

    Raises:
        InputError: it does not run.
    """
    record = directory.read()
    if everybody:
        for pid in processes(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return
    if not record.alive:
        raise InputError(f"container {directory.id} is stopped, there is no process to signal")
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(record.pid)
        try:
            # Checked again: now the descriptor keeps the pid from being another's.
            if record.alive:
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def pause(directory: ContainerDirectory) -> None:
    """Stop every process of a running container.

    Raises:
        InputError: it does not run.
        HostError: this host cannot.
    """
    with directory.locked():
        record = _expect(directory, "pause", "running", "created")
        group_of(record).freeze()
        directory.note_pause(paused=True)


def resume(directory: ContainerDirectory) -> None:
    """Let a paused container run again.

    Raises:
        InputError: it is not paused.
    """
    with directory.locked():
        record = _expect(directory, "resume", "paused")
        group_of(record).thaw()
        directory.note_pause(paused=False)


def delete(directory: ContainerDirectory, *, force: bool = False) -> tuple[str, ...]:
    """Remove all that is left of a stopped container; with `force` of any.

    Returns:
        Warnings: poststop hooks that failed.

    Raises:
        InputError: there is none, or it still runs.
        LeftoverError: something survived.
    """
    with directory.locked():
        record = _read_for_deletion(directory, force=force)
        status = directory.status(record)
        # A container that was created and never started may be deleted: it runs no program of its own.
        if status not in {"stopped", "created"} and not force:
            raise InputError(
                f"container {directory.id} is {status}", f"pybench-oci delete --force {directory.id} kills it"
            )
        state = {**directory.state(record), "status": "stopped", "pid": 0}
        _end(record)
        remove_placed(map(Path, record.groups), map(Path, record.groups_above))
        warnings = _run_later_hooks(directory, record, state, "poststop")
        directory.remove()
    return warnings


def _read_for_deletion(directory: ContainerDirectory, *, force: bool) -> Record:
    try:
        return directory.read()
    except HostError:
        if not force:
            raise
        # Of a damaged record nothing is known but that it is to go.
        return Record(directory.id, "", "", "")


def _run_later_hooks(
    directory: ContainerDirectory,
    record: Record,
    state: Mapping[str, Any],
    point: Literal["poststart", "poststop"],
) -> tuple[str, ...]:
    """Their failures are told, "but the lifecycle continues" (runtime.md)."""
    if not record.later_hooks:
        return ()
    from pybench.runtime.container.lifecycle.hooks import run_hooks  # noqa: PLC0415 - rare

    try:
        hooks = directory.specification().hooks
        run_hooks(hooks.poststart if point == "poststart" else hooks.poststop, state, point)
    except PybenchError as error:
        return (error.message,)
    return ()


def processes(record: Record) -> tuple[int, ...]:
    """The host's pids of all processes of a container."""
    try:
        return group_of(record).processes()
    except HostError:
        return (record.pid,) if record.alive else ()


def group_of(record: Record) -> Group:
    """Its control group.

    Raises:
        HostError: it is gone.
    """
    return open_group(Path(directory) for directory in record.groups)


@contextlib.contextmanager
def _living(record: Record) -> Iterator[int | None]:
    if not record.alive:
        yield None
        return
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd if record.alive else None
    finally:
        os.close(pidfd)


def _end(record: Record) -> None:
    """Kill the first process, with whom its pid namespace ends, then what else is in the group."""
    there = [path for path in map(Path, record.groups) if path.is_dir()]
    group = open_group(there) if there else None
    if group is not None:
        group.thaw()
    with _living(record) as pidfd:
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(KILL_PATIENCE * 1000):
                raise LeftoverError(f"process {record.pid} of container {record.id} survived SIGKILL")
    if group is not None:
        group.kill()


def _expect(directory: ContainerDirectory, what: str, *wanted: Status) -> Record:
    record = directory.read()
    status = directory.status(record)
    if status not in wanted:
        raise InputError(f"cannot {what} container {directory.id}: it is {status}, not {' or '.join(wanted)}")
    return record


def _read(descriptor: int) -> bytes:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            return os.read(descriptor, _RECORD_BYTES)
        except BlockingIOError:
            continue
    return b""


def _explain(record: Record, step: int, number: int) -> str:
    what = record.steps[step] if 0 <= step < len(record.steps) else "execve"
    code = errno.errorcode.get(number, str(number))
    return f"container {record.id}: {what} failed: {os.strerror(number)} ({code})"
