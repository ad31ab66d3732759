"""What each probe runs in a shell, and the facts in what that prints: as the payload in Python tells them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.audit.answer import MalformedAnswerError
from pybench.harness.audit.guest.descriptors import HARDWARE, HELPERS, SWITCHES
from pybench.harness.audit.guest.devices import KERNEL_DEVICES
from pybench.harness.audit.guest.filesystem import HOST_FILES
from pybench.harness.audit.guest.network import MOST_PORTS, SYSCTLS, TABLES
from pybench.harness.audit.guest.pid import NAMESPACES

if TYPE_CHECKING:
    from pybench.harness.audit.model import Parameters

Facts = dict[str, Any]
_MOST_ROWS: Final = 300
_ERRORS: Final = {
    "read-only file system": "EROFS",
    "permission denied": "EACCES",
    "operation not permitted": "EPERM",
    "no such file": "ENOENT",
    "nonexistent": "ENOENT",
    "no such process": "ESRCH",
    "no such device": "ENODEV",
    "text file busy": "ETXTBSY",
    "is a directory": "EISDIR",
    "busy": "EBUSY",
}
"""What shells print, in small letters, and the error's name."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a part printed."""

    lines: Sequence[str]

    @property
    def by_place(self) -> Iterator[tuple[str, str]]:
        """Each line with the file that it was read from; empty where it was none."""
        place = ""
        for line in self.lines:
            if line.startswith(">"):
                place = line[1:]
                yield place, ""
            else:
                yield place, line

    def of(self, place: str) -> list[str]:
        """The lines of one file."""
        return [line for found, line in self.by_place if found == place and line]

    @property
    def faults(self) -> dict[str, str]:
        """Path → the error of opening it, empty if it opened; from lines `path=message`."""
        pairs = (line.partition("=") for line in self.lines if line.startswith("/"))
        return {path: error_in(message) for path, _, message in pairs}

    def value(self, name: str) -> str:
        """Of the first line `name=…`.

        Raises:
            MalformedAnswerError: there is none.
        """
        for line in self.lines:
            if line.startswith(f"{name}="):
                return line.partition("=")[2].strip()
        raise MalformedAnswerError(f"it says no {name}")

    def fields(self) -> dict[str, str]:
        """Of lines `name: value`."""
        pairs = (line.partition(":") for line in self.lines if ":" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class ShellPart:
    """The part of one probe."""

    script: Callable[[Parameters], str]
    facts: Callable[[Printed, Parameters], Facts]


def error_in(message: str) -> str:
    """The error's name in what a shell or tool says; empty if it says nothing."""
    if not message.strip():
        return ""
    lowered = message.lower()
    return next((name for text, name in _ERRORS.items() if text in lowered), "EIO")


def _always(text: str) -> Callable[[Parameters], str]:
    return lambda _given: text


def _words(paths: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, paths))


_PROCESSES: Final = """
for d in /proc/[0-9]*; do show "$d/cmdline" "$d/environ"; done
"""


def _processes(printed: Printed, _given: Parameters) -> Facts:
    count = sum(line.startswith(">") for line in printed.lines) // 2
    if not count:
        raise MalformedAnswerError("it sees no process, not even its own")
    return {"processes": count}


def _signal(given: Parameters) -> str:
    return (
        f"printf 'kill='; kill -0 {int(str(given['pid']))} 2>&1; echo\n"
        "echo own=$$\nprintf 'last='; ls /proc | grep '^[0-9]*$' | sort -n | tail -n 1"
    )


def _signalled(printed: Printed, _given: Parameters) -> Facts:
    return {
        "fault": error_in(printed.value("kill")),
        "own": int(printed.value("own")),
        "last": int(printed.value("last")),
    }


def _namespaces(printed: Printed, _given: Parameters) -> Facts:
    told = dict(line.partition("=")[::2] for line in printed.lines if "=" in line)
    found = {name: link for name, link in told.items() if name in NAMESPACES and link}
    if not found:
        raise MalformedAnswerError("it names no namespace")
    return {"namespaces": found}


def _first_processes(printed: Printed, _given: Parameters) -> Facts:
    first = " ".join(printed.of("/proc/1/stat")).rpartition(")")[2].split()
    nested = [line.split()[1:] for line in printed.of("/proc/self/status") if line.startswith("NSpid:")]
    return {
        "second": " ".join(printed.of("/proc/2/comm")).strip(),
        "first_started": first[19] if len(first) > 19 else "",  # noqa: PLR2004 - as in proc_pid_stat(5)
        "depth": len(nested[0]) if nested else 0,
    }


def _map(printed: Printed, _given: Parameters) -> Facts:
    return {"uid": int(printed.value("uid")), "map": " ".join(printed.of("/proc/self/uid_map")).split()}


def _secret(given: Parameters) -> str:
    path = shlex.quote(str(given["path"]))
    return f"opens {path}\nshow {path}" if given["path"] else ":"


def _secret_read(printed: Printed, given: Parameters) -> Facts:
    path = str(given["path"])
    return {"given": bool(path), "fault": printed.faults.get(path, "ENOENT") if path else ""}


def _users(printed: Printed, given: Parameters) -> Facts:
    asked = given["users"]
    assert isinstance(asked, list)  # noqa: S101 - its host part makes one
    fields = [line.split(":") for line in printed.of("/etc/passwd")]
    ours = {f"{each[0]}:{each[2]}" for each in fields if len(each) > 2}  # noqa: PLR2004 - name, password, number
    known = [str(each).rpartition(":")[0] for each in asked if each in ours]
    return {"known": known, "asked": len(asked)}


def _ports(printed: Printed, _given: Parameters) -> Facts:
    found = set()
    for table in TABLES:
        for line in printed.of(f"/proc/self/net/{table}")[1:]:
            number = line.split()[1].rpartition(":")[2] if len(line.split()) > 1 else ""
            if re.fullmatch("[0-9A-F]{4}", number):
                found.add(f"{table[:3]} {int(number, 16)}")
    return {"ports": sorted(found)[:MOST_PORTS]}


def _settings(printed: Printed, _given: Parameters) -> Facts:
    faults = printed.faults
    return {
        "faults": {path: faults.get(path, "ENOENT") for path in SYSCTLS},
        "namespace": printed.value("namespace"),
    }


def _temporary(given: Parameters) -> str:
    folder = shlex.quote(str(given["directory"]))
    return f'ls -a {folder}\nfor f in {folder}/pybench-audit-*; do [ -f "$f" ] && show "$f"; done'


def _files(printed: Printed, _given: Parameters) -> Facts:
    return {"fault": "", "files": len(printed.lines)}


def _writable_root(printed: Printed, _given: Parameters) -> Facts:
    return {"fault": error_in(printed.value("made"))}


def _host_files(printed: Printed, _given: Parameters) -> Facts:
    faults = {f"write {path}": fault for path, fault in printed.faults.items() if path in HOST_FILES}
    for line in printed.lines:
        what, _, message = line.partition("=")
        verb, _, path = what.partition(" ")
        if verb in {"rename", "remount"} and path in HOST_FILES:
            faults[what] = error_in(message)
    return {"faults": faults}


def _mounts(printed: Printed) -> list[list[str]]:
    return [line.split(" ") for line in printed.of("/proc/self/mountinfo")]


def _flags(printed: Printed, _given: Parameters) -> Facts:
    return {
        "mounts": [
            [fields[4], fields[fields.index("-") + 1], fields[5]]
            for fields in _mounts(printed)[:_MOST_ROWS]
            if "-" in fields[6:-1]
        ]
    }


def _groups(printed: Printed, _given: Parameters) -> Facts:
    own = [line.split(":", 2)[2] for line in printed.of("/proc/self/cgroup") if line.count(":") > 1]
    roots = [
        fields[3]
        for fields in _mounts(printed)
        if "-" in fields[6:-1] and fields[fields.index("-") + 1] in {"cgroup", "cgroup2"}
    ]
    return {"own": own[:64], "roots": roots[:64]}


def _keys(printed: Printed, _given: Parameters) -> Facts:
    return {"keys": len(printed.of("/proc/keys")), "users": printed.of("/proc/key-users")[:64]}


def _uptime(printed: Printed, _given: Parameters) -> Facts:
    words = " ".join(printed.of("/proc/uptime")).split()
    return {"call": -1.0, "file": float(words[0]) if words else -1.0}


def _log(printed: Printed, _given: Parameters) -> Facts:
    refused = printed.of("dmesg")
    return {
        "call": error_in(refused[0]) if len(refused) == 1 else "",
        "device": printed.faults.get("/dev/kmsg", "ENOENT"),
    }


def _readable(printed: Printed, _given: Parameters) -> Facts:
    return {"readable": [line for line in printed.lines if line.startswith("/")][:_MOST_ROWS]}


def _devices(printed: Printed, _given: Parameters) -> Facts:
    rows = []
    for line in printed.lines:
        kind, _, rest = line.partition("|")
        major, minor, path = (*rest.split("|", 2), "", "", "")[:3]
        if path and re.fullmatch("[0-9a-f]{1,8}", major) and re.fullmatch("[0-9a-f]{1,8}", minor):
            rows.append(
                [path, "b" if kind.startswith("block") else "c", f"{int(major, 16)}:{int(minor, 16)}"]
            )
    if not rows:
        raise MalformedAnswerError("it lists no device, not even the null device")
    return {"devices": rows[:_MOST_ROWS], "count": len(rows)}


def _opened(paths: Sequence[str]) -> Callable[[Printed, Parameters], Facts]:
    return lambda printed, _given: {"faults": {path: printed.faults.get(path, "ENOENT") for path in paths}}


def _capabilities(printed: Printed, _given: Parameters) -> Facts:
    fields = printed.fields()
    return {
        "sets": {name: fields.get(name, "") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    }


def _environment(printed: Printed, _given: Parameters) -> Facts:
    names = [line.partition("=")[0] for line in printed.of("environment")]
    return {"proxies": [each for each in names if each.lower().endswith("_proxy")], "variables": len(names)}


def _one(name: str, key: str) -> Callable[[Printed, Parameters], Facts]:
    return lambda printed, _given: {key: printed.value(name)}


_STATUS: Final = _always("cat /proc/self/status")
_WRITTEN_FILES: Final = f"""
writes {_words(HOST_FILES)}
"""
_CHANGED_FILES: Final = f"""
for f in {_words(HOST_FILES)}; do
  [ -e "$f" ] || continue
  printf 'rename %s=' "$f"; {{ mv "$f" "$f.pybench" 2>&1 && mv "$f.pybench" "$f"; echo; }}
  printf 'remount %s=' "$f"; {{ unshare -m mount -o remount,bind,rw "$f" 2>&1; echo; }}
done
"""
_SHOW_LINKS: Final = "\n".join(
    f"printf '{name}=%s\\n' \"$(readlink /proc/self/ns/{name})\"" for name in NAMESPACES
)
_READ_FIRST: Final = 'for f in {}; do [ -n "$(head -c 64 "$f" | tr -d \'\\000\')" ] && echo "$f"; done'
_SENSORS: Final = "/proc/interrupts /sys/class/powercap/*/energy_uj /sys/class/thermal/thermal_zone*/temp"
_INSIDE: Final = "/proc/cmdline /proc/config.gz /proc/kcore /proc/modules /proc/slabinfo /proc/vmallocinfo"
_LIST_DEVICES: Final = "find /dev \\( -type b -o -type c \\) -exec stat -c '%F|%t|%T|%n' {} +"

PARTS: Mapping[str, ShellPart] = {
    "P1": ShellPart(_always(_PROCESSES), _processes),
    "P2": ShellPart(_signal, _signalled),
    "P3": ShellPart(_always(_SHOW_LINKS), _namespaces),
    "P4": ShellPart(_always("show /proc/2/comm /proc/1/stat /proc/self/status"), _first_processes),
    "P6": ShellPart(_always(_PROCESSES), _processes),
    "U1": ShellPart(_always("echo uid=$(id -u)\nshow /proc/self/uid_map"), _map),
    "U3": ShellPart(_secret, _secret_read),
    "U5": ShellPart(_always("show /etc/passwd"), _users),
    "N5": ShellPart(
        _always("show " + " ".join(f"/proc/self/net/{table}" for table in (*TABLES, "unix"))), _ports
    ),
    "N11": ShellPart(
        _always(f"writes {_words(SYSCTLS)}\necho namespace=$(readlink /proc/self/ns/net)"), _settings
    ),
    "M1": ShellPart(_temporary, _files),
    "M4": ShellPart(
        _always("f=/.pybench-$$; printf 'made='; { ( : >$f ) 2>&1; echo; }; rm -f $f"), _writable_root
    ),
    "M5": ShellPart(
        lambda given: _WRITTEN_FILES if given.get("shared") else _WRITTEN_FILES + _CHANGED_FILES, _host_files
    ),
    "M6": ShellPart(
        _always("show /proc/self/mountinfo"), lambda printed, _given: {"mounts": len(_mounts(printed))}
    ),
    "M7": ShellPart(_always("show /proc/self/mountinfo"), _flags),
    "G1": ShellPart(_always("show /proc/self/cgroup /proc/self/mountinfo"), _groups),
    "I4": ShellPart(_always("show /proc/keys /proc/key-users"), _keys),
    "I7": ShellPart(_always("echo name=$(uname -n)"), _one("name", "name")),
    "T1": ShellPart(_always("show /proc/uptime"), _uptime),
    "K1": ShellPart(_always("echo release=$(uname -r)"), _one("release", "release")),
    "K2": ShellPart(_always("echo id=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"), _one("id", "id")),
    "K5": ShellPart(_always("opens /dev/kmsg\necho '>dmesg'\ndmesg 2>&1 | tail -c 1048576"), _log),
    "X4": ShellPart(_always(_READ_FIRST.format(_SENSORS)), _readable),
    "X6": ShellPart(_always(_READ_FIRST.format(_INSIDE)), _readable),
    "D1": ShellPart(_always(_LIST_DEVICES), _devices),
    "D3": ShellPart(_always(f"opens {_words(KERNEL_DEVICES)}"), _opened(KERNEL_DEVICES)),
    "C1": ShellPart(_STATUS, _capabilities),
    "C2": ShellPart(_STATUS, lambda printed, _given: {"set": printed.fields().get("NoNewPrivs") == "1"}),
    "F3": ShellPart(_always("echo '>environment'\nenv"), _environment),
    "E1": ShellPart(_always(f"writes {_words(HELPERS)}"), _opened(HELPERS)),
    "E2": ShellPart(_always(f"writes {_words(SWITCHES)}"), _opened(SWITCHES)),
    "E3": ShellPart(_always(f"writes {_words(HARDWARE)}"), _opened(HARDWARE)),
}
"""Probe → its part; the others take calls that no shell makes."""
