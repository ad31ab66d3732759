"""The guest's parts of the probes about users."""

from __future__ import annotations

import os
import pwd

from pybench.harness.audit.guest.core import Facts, Given, Sightings, name_of, part, read, read_or_nothing

NOBODY = 54321
"""A user that owns nothing."""


def exit_code_of(path: str, user: int) -> tuple[int, str]:
    """Run a program as a user: its exit code, and the error if it could not be run."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.execv(path, [path])  # noqa: S606 - there is no shell in it
        except OSError as error:
            os.write(writer, name_of(error).encode("ascii"))
        os._exit(255)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    fault = os.read(reader, 64).decode("ascii")
    os.close(reader)
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)), fault


@part("U1")
def read_the_map(_given: Given, _seen: Sightings) -> Facts:
    """How our user ids are mapped."""
    return {
        "uid": os.getuid(),
        "map": read_or_nothing("/proc/self/uid_map").decode("ascii", "replace").split(),
    }


@part("U3")
def open_a_secret_of_the_hosts_root(given: Given, seen: Sightings) -> Facts:
    """Read a file that is 0600 and the host's root's."""
    path = given["path"]
    if not path:
        return {"fault": "", "given": False}
    try:
        seen.look(read(path, 4096), path)
    except OSError as error:
        return {"fault": name_of(error), "given": True}
    return {"fault": "", "given": True}


@part("U4")
def make_a_file_in_a_volume(given: Given, _seen: Sightings) -> Facts:
    """Make a file, for the host to look at its owner."""
    if not given["path"]:
        return {"fault": "", "given": False}
    try:
        os.close(os.open(given["path"], os.O_WRONLY | os.O_CREAT, 0o644))
    except OSError as error:
        return {"fault": name_of(error), "given": True}
    return {"fault": "", "given": True}


@part("U5")
def resolve_the_hosts_users(given: Given, _seen: Sightings) -> Facts:
    """Which of the host's user names are known here, with the same number."""
    known = []
    for entry in given["users"]:
        name, _, number = entry.rpartition(":")
        try:
            found = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
        if found == int(number):
            known.append(name)
    return {"known": known, "asked": len(given["users"])}


def _write_program(path: str, content: bytes) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    except OSError as error:
        return name_of(error)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, 0o4755)
    finally:
        os.close(descriptor)
    return ""


@part("U6")
def run_a_setuid_program(given: Given, _seen: Sightings) -> Facts:
    """Run one of the host's root's, and one that we make in our own /tmp, as a user without any rights."""
    facts: Facts = {"user": NOBODY & 255, "planted": -1, "planted_fault": "no volume"}
    if given["path"]:
        facts["planted"], facts["planted_fault"] = exit_code_of(given["path"], NOBODY)
    own = f"/tmp/pybench-setuid-{os.getpid()}"  # noqa: S108 - inside, and of a name that nobody else has
    facts["own"], facts["own_fault"] = -1, _write_program(own, bytes.fromhex(given["program"]))
    if not facts["own_fault"]:
        facts["own"], facts["own_fault"] = exit_code_of(own, NOBODY)
        os.unlink(own)
    return facts


@part("U7")
def count_the_users_signals(_given: Given, _seen: Sightings) -> Facts:
    """How many queued signals are counted against our user."""
    status = read_or_nothing("/proc/self/status").decode("ascii", "replace")
    lines = [line for line in status.splitlines() if line.startswith("SigQ:")]
    queued = lines[0].split()[1].partition("/")[0] if lines else "-1"
    return {"queued": int(queued)}
