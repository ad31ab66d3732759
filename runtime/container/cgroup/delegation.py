"""Delegation by systemd: a scope of our own, in which an ordinary user may make control groups.

The own process has to be inside: whoever puts a process into a group needs write access to the
nearest group above both the old and the new one (cgroup-v2.rst, "Delegation Containment"), so a
scope beside us would be of no use. systemd removes the scope, and what is left beneath it, when the
last process has left.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pybench.runtime.container.cgroup.v2 import enable_controllers
from pybench.runtime.errors import HostError

_MANAGER = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_INTERFACE = "org.freedesktop.systemd1.Manager"
_TIMEOUT = 5.0
_RUNNING = Path("/run/systemd/system")
"""There where systemd is the init (sd_booted(3))."""
INNER_GROUP = "harness"
"""The group within the scope that holds this process, for a group with processes delegates nothing."""


def enter_scope() -> None:
    """Move this process into a new scope whose groups it may manage.

    Raises:
        HostError: there is no systemd, no way to ask it, or it refused; says which.
    """
    if not _RUNNING.is_dir():
        raise HostError("systemd is not running here")
    name = f"pybench-{os.getpid()}.scope"
    _start_scope(name)
    path = _own_group()
    if not path.endswith(f"/{name}"):
        raise HostError(f"systemd made {name}, but this process is in {path}")


def settle(scope: Path) -> None:
    """Make room for groups beside this process, which moves into a group of its own within the scope.

    Raises:
        HostError: the scope is not ours to manage after all.
    """
    inner = scope / INNER_GROUP
    try:
        inner.mkdir(exist_ok=True)
        (inner / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    except OSError as error:
        with contextlib.suppress(OSError):
            inner.rmdir()
        raise HostError(f"cannot move into {inner}: {error.strerror}") from error
    enable_controllers(scope)


def _own_group() -> str:
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return ""


def _start_scope(name: str) -> None:
    """StartTransientUnit (org.freedesktop.systemd1(5)), then wait for the end of its job."""
    try:
        from jeepney import DBusAddress, MatchRule, message_bus, new_method_call  # noqa: PLC0415 - seldom needed
        from jeepney.io.blocking import Proxy, open_dbus_connection  # noqa: PLC0415
        from jeepney.wrappers import DBusErrorResponse, unwrap_msg  # noqa: PLC0415
    except ImportError as error:
        raise HostError(f"systemd cannot be asked: {error}", "pip install jeepney") from error
    properties = [
        ("Description", ("s", "pybench")),
        ("PIDs", ("au", [os.getpid()])),
        ("Delegate", ("b", True)),
        # Gone at its end even if its last process failed.
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    request = new_method_call(
        DBusAddress(_PATH, bus_name=_MANAGER, interface=_INTERFACE),
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        (name, "fail", properties, []),
    )
    ended = MatchRule(type="signal", interface=_INTERFACE, member="JobRemoved", path=_PATH)
    try:
        with (
            open_dbus_connection(_bus()) as connection,
            connection.filter(ended, bufsize=64) as endings,
        ):
            Proxy(message_bus, connection, timeout=_TIMEOUT).AddMatch(ended)
            (job,) = unwrap_msg(connection.send_and_get_reply(request, timeout=_TIMEOUT))
            while True:
                _, path, _, result = connection.recv_until_filtered(endings, timeout=_TIMEOUT).body
                if path == job:
                    break
    except (OSError, DBusErrorResponse, ValueError, RuntimeError) as error:
        # The last two are the library's, for an address that makes no sense.
        raise HostError(f"systemd made no scope: {type(error).__name__} {error}") from error
    if result != "done":
        raise HostError(f"systemd made no scope: its job ended as {result!r}")


def _bus() -> str:
    """The address of the bus that this user's manager listens on."""
    if os.geteuid() == 0:
        return "SYSTEM"
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return os.environ.get("DBUS_SESSION_BUS_ADDRESS", f"unix:path={runtime}/bus")
