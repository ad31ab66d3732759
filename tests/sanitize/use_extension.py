"""What memcheck watches of the extension: programs built and refused, and a spawn up to clone3.

Run as `python use_extension.py EXTENSION`; it imports nothing else of ours, since all of Python runs at a
fiftieth of its speed under valgrind. There clone3 answers ENOSYS.
"""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

WORDS = tuple(b"word" * 50 for _ in range(20))


def load(path: str) -> Any:
    """The extension, which is no part of a package here."""
    loader = importlib.machinery.ExtensionFileLoader("_spawn", path)
    specification = importlib.util.spec_from_loader("_spawn", loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


def refused(spawn: Any, *arguments: object) -> bool:
    """Whether no program can be made of this."""
    try:
        spawn.Program(*arguments)
    except (TypeError, ValueError):
        return True
    return False


def main() -> None:
    """Every kind of argument, good and bad."""
    spawn = load(sys.argv[1])
    steps = ((spawn.IDENTITY, 0, 0, 0, b"\1\0\0\0"), (spawn.FILESYSTEM, 5, 0, b"tmpfs", b"size=1m"))
    program = spawn.Program(steps, b"/bin/true", WORDS, (b"A=b",))
    assert refused(spawn, ((),), b"/bin/true", (), ())
    assert refused(spawn, ((10**6,),), b"/bin/true", (), ())
    assert refused(spawn, (("text",),), b"/bin/true", (), ())
    assert refused(spawn, ((spawn.PIVOT, spawn.SLOTS),), b"/bin/true", (), ())
    assert refused(spawn, ((spawn.LIMIT, *range(9)),), b"/bin/true", (), ())
    assert refused(spawn, ((spawn.SYMLINK, *WORDS),), b"/bin/true", (), ())
    assert refused(spawn, (), "text", (), ())
    assert refused(spawn, (), b"zero\0byte", (), ())
    assert refused(spawn, (), b"/bin/true", (b"zero\0byte",), ())
    assert refused(spawn, (), b"/bin/true", (), (1,))

    given: dict[str, Any] = {
        "flags": 0, "descriptors": (0, 1), "uid_map": "0 0 1\n", "gid_map": "0 0 1\n", "time_offsets": None,
        "deny_setgroups": False, "map_commands": ((b"/usr/bin/newuidmap", b"0", b"0", b"1"),), "cgroup": -1,
        "watched": (0,), "awaited": 0, "cancel": -1, "timeout": 10**9, "listener": -1, "supervisor": -1,
    }  # fmt: skip
    for wrong in (
        {"descriptors": tuple(range(100))},
        {"watched": tuple(range(5))},
        {"awaited": 2},
        {"map_commands": ((),)},
        {"map_commands": (WORDS * 4,)},
        {"descriptors": ("text",)},
    ):
        try:
            spawn.spawn(program, **{**given, **wrong})
        except (TypeError, ValueError):
            continue
        raise AssertionError(wrong)
    *_, failed, number, call = spawn.spawn(program, **given)
    assert (failed, number, call) == (-2, errno.ENOSYS, "clone3"), (failed, os.strerror(number), call)
    assert len(spawn.pipe_latencies(3)) == 3


main()
