"""What went wrong with the database, in the harness's terms."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy.exc import DBAPIError

from pybench.harness.errors import HostError, InputError, PybenchError

_OTHER_FOLDER: Final = "choose another place with --results or --store"
_ANOTHER_WRITER: Final = "end the other run, then try again"
_DISK_FULL: Final = "free some space; what was committed is kept"
_DAMAGE: Final = ("not a database", "malformed", "no such", "corrupt", "could not decode")
_DAMAGED: Final = (
    "restore it from a copy; or save what can be read: whole runs with "
    "`pybench history check --rescue NEW.sqlite`, single rows with `sqlite3 FILE .recover`"
)
_LONGEST_REASON: Final = 200
_DISK_REFUSES: Final = "look for a quota, for `ulimit -f`, and in dmesg; what was committed is kept"


class DamagedValueError(ValueError):
    """What was read from the database cannot be what was stored there."""


class UnreachableError(HostError):
    """The database server cannot be reached, or went away; nothing is wrong with what was asked of it."""


def translate(error: DBAPIError, what: str) -> PybenchError:
    """Our error for one of the driver's.

    Args:
        error: as SQLAlchemy wraps it.
        what: what could not be done with which store, for the message.
    """
    if getattr(error.orig, "__module__", "").startswith("psycopg"):
        return _of_postgresql(error, what)
    return _of_sqlite(error, what)


def damaged(what: str, reason: str) -> InputError:
    """The error of a record whose content is not what was stored."""
    reason = "".join(each if each.isprintable() else "?" for each in reason)
    return InputError(f"{what}: the database is damaged ({reason[:_LONGEST_REASON]})", _DAMAGED)


def _of_sqlite(error: DBAPIError, what: str) -> PybenchError:
    """SQLite's result codes reach Python as their English text (sqlite.org/rescode.html)."""
    text = str(error.orig)
    lowered = text.lower()
    if "locked" in lowered or "busy" in lowered:
        return HostError(f"{what}: another process keeps it locked", _ANOTHER_WRITER)
    if "full" in lowered:
        return HostError(f"{what}: the disk is full", _DISK_FULL)
    if "readonly" in lowered or "unable to open" in lowered or "permission" in lowered:
        return InputError(f"{what}: it cannot be written", _OTHER_FOLDER)
    if any(word in lowered for word in _DAMAGE):
        return damaged(what, text)
    if "constraint failed" in lowered:
        return InputError(f"{what}: it is there already, or what it belongs to is not")
    hint = _DISK_REFUSES if "i/o error" in lowered else ""
    return HostError(f"{what}: {text}", hint)


_OF_CLASS: Final[dict[str, tuple[type[PybenchError], str, str]]] = {
    "22": (InputError, "a value does not fit the database", ""),
    "23": (InputError, "it is there already, or what it belongs to is not", ""),
    "25": (InputError, "it cannot be written", "connect to the primary server, not to a replica"),
    "28": (InputError, "the server refuses this user", "check user and password of the store's URL"),
    "3D": (InputError, "there is no such database on the server", "make it first: createdb pybench"),
    "42": (InputError, "the database is damaged, or this user may not use it", "restore it from a copy"),
    "53": (HostError, "the server is out of disk space, memory or connections", _DISK_FULL),
    "55": (HostError, "another process keeps it locked", _ANOTHER_WRITER),
    "XX": (InputError, "the database is damaged", "restore it from a copy"),
}
"""By the class of SQLSTATE (PostgreSQL manual, appendix A): the error, what happened, what to do."""


_STATE_OF_REFUSAL: Final = {
    r'role ".*" does not exist|authentication failed|no pg_hba.conf entry': "28000",
    r'database ".*" does not exist': "3D000",
}


def _of_postgresql(error: DBAPIError, what: str) -> PybenchError:
    state = getattr(error.orig, "sqlstate", None) or ""
    text = (str(error.orig).strip().splitlines() or [""])[0]
    if not state:
        # While connecting, the driver passes on the server's text but not its SQLSTATE.
        state = next((found for part, found in _STATE_OF_REFUSAL.items() if re.search(part, text)), "")
    # Class 57P0x: an administrator ended the server. No state at all: the connection itself failed.
    if error.connection_invalidated or not state or state[:2] in {"08", "57"}:
        return UnreachableError(
            f"{what}: the server cannot be reached ({text})", "start it, or check host and port of the URL"
        )
    if state == "42501":
        return InputError(f"{what}: it cannot be written by this user", "GRANT it to this user")
    kind, problem, hint = _OF_CLASS.get(state[:2], (HostError, "the server refuses", ""))
    return kind(f"{what}: {problem} ({text})", hint)
