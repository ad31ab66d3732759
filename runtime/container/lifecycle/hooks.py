"""Programs that run at points of a container's life, outside of it (config.md, POSIX-platform Hooks)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pybench.runtime.container import system_calls
from pybench.runtime.container.specification.model import Hook
from pybench.runtime.container.specification.namespaces import FLAGS
from pybench.runtime.errors import InstanceError
from pybench.runtime.output import printable

_SHOWN_BYTES: Final = 2000


def run_hooks(
    hooks: Iterable[Hook], state: Mapping[str, Any], point: str, *, inside: int | None = None
) -> None:
    """Run hooks in order, each with the container's state on its input.

    Args:
        hooks: what to run; paths are the host's.
        state: the container's.
        point: of its life, for messages.
        inside: pid of the process whose mount, network, UTS and IPC namespaces they run in.

    Raises:
        InstanceError: one failed or took too long; the rest is not run.
    """
    text = json.dumps(dict(state)).encode()
    for number, hook in enumerate(hooks):
        place = f"hooks.{point}[{number}]: {hook.path}"
        try:
            with subprocess.Popen(
                hook.args or (hook.path,),
                executable=hook.path,
                env=dict(variable.split("=", 1) for variable in hook.env),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # So that what it has started ends with it when its time is over.
                start_new_session=True,
                # One system call; hooks are outside of what is measured.
                preexec_fn=(lambda: _enter(inside)) if inside else None,  # noqa: PLW1509 - takes no lock
            ) as process:
                try:
                    _, complaint = process.communicate(text, hook.timeout)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise
        except subprocess.TimeoutExpired:
            raise InstanceError(f"{place} did not end within {hook.timeout} s") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise InstanceError(f"{place}: {error}") from error
        if process.returncode:
            said = printable(complaint[-_SHOWN_BYTES:]).strip()
            raise InstanceError(f"{place} ended with {process.returncode}{': ' if said else ''}{said}")


def _enter(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    system_calls.setns(pidfd, sum(FLAGS[kind] for kind in ("network", "uts", "ipc", "mount")))
    os.close(pidfd)
