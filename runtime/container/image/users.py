"""Who a container runs as: the image's own names, looked up in the image's own files.

The rules are those of docker and runc (moby/sys/user, GetExecUser): a number is always a uid,
whatever is called so; a group that is named replaces all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.merged import MergedTree
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FILE_LIMIT: Final = 1 << 20
_HIGHEST_ID: Final = (1 << 31) - 1
_GROUPS_LIMIT: Final = 65536
"""NGROUPS_MAX of Linux."""


@dataclass(frozen=True, slots=True)
class User:
    """Numbers as the container sees them; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"


def resolve_user(layers: Sequence[Path], text: str) -> User:
    """Resolve `user`, `uid`, `user:group`, …; empty is root. `layers` begins with the topmost.

    Raises:
        InputError: a name is unknown, a number out of range, or a file too large.
    """
    tree = MergedTree(layers)
    name, _, group_name = text.partition(":")
    name = name or "0"
    number = _number(name, "user")
    account = None
    for row in _rows(tree, "/etc/passwd", 7):
        if row[0] == name if number is None else _id(row[2]) == number:
            account = row
            break
    if account is None:
        if number is None:
            raise InputError(f"the image's /etc/passwd has no user {name[:80]!r}")
        user = User(number, 0, ())
    else:
        user = User(_required_id(account[2], name), _required_id(account[3], name), (), account[5] or "/")
    rows = _rows(tree, "/etc/group", 4)
    if group_name:
        return User(user.uid, _group(rows, group_name), (), user.home)
    members = account[0] if account else None
    groups = {gid for row in rows if members in row[3].split(",") and (gid := _id(row[2])) is not None}
    if len(groups) > _GROUPS_LIMIT:
        raise InputError(f"the image's /etc/group puts {name[:80]!r} into more than {_GROUPS_LIMIT} groups")
    return User(user.uid, user.gid, tuple(sorted(groups)), user.home)


def _group(rows: list[list[str]], name: str) -> int:
    number = _number(name, "group")
    if number is not None:
        return number
    for row in rows:
        if row[0] == name and (gid := _id(row[2])) is not None:
            return gid
    raise InputError(f"the image's /etc/group has no group {name[:80]!r}")


def _rows(tree: MergedTree, path: str, columns: int) -> list[list[str]]:
    content = tree.read(path, _FILE_LIMIT) or b""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    rows = (line.strip().split(":") for line in lines if not line.startswith("#"))
    return [row for row in rows if len(row) >= columns]


def _number(text: str, what: str) -> int | None:
    """The number that a text is; None if it is a name."""
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        return None
    number = _id(text)
    if number is None:
        raise InputError(f"the {what} {text[:40]} is not between 0 and {_HIGHEST_ID}")
    return number


def _id(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST_ID))):
        return None
    return int(text) if int(text) <= _HIGHEST_ID else None


def _required_id(text: str, name: str) -> int:
    number = _id(text)
    if number is None:
        raise InputError(f"the image's /etc/passwd gives {name[:80]!r} the impossible id {text[:40]!r}")
    return number
