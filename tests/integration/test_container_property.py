"""Containers of random specifications: each runs or refuses by name, and nothing is left of either."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.cgroup.detect import NoGroups, detect
from pybench.runtime.container.instance import Readiness
from pybench.runtime.container.rootfs import Volume
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.container.specification.model import User
from pybench.runtime.errors import PybenchError
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

MEBIBYTE = 2**20


def mostly(good: list[Any], odd: list[Any]) -> st.SearchStrategy[Any]:
    """Something odd once in a while: of many parts, one that is refused hides all others."""
    return st.integers(0, 9).flatmap(lambda dice: st.sampled_from(odd if dice == 7 else good))


COMMANDS = mostly(
    [
        ("/bin/workload", "ready"),
        ("/bin/sh", "-c", "echo ready; exec sleep 60"),
        ("sh", "-c", "echo ready; wait; sleep 60"),
    ],
    [("/bin/sh", "-c", "exit 3"), ("/bin/nothing",), ("nothing",), ("/etc",), ("/etc/passwd",), ("", "x")],
)
DESTINATIONS = mostly(
    ["/tmp/x", "/data", "/etc/hosts", "/run/deep/er"],
    ["/dev/x", "/proc/x", "/proc", "/", "/run", "relative", "/a/../b", "/bin/sh"],
)
IDS = mostly([0, 1000, 65535], [65536, 2**31])
LIMITS = st.builds(
    Limits,
    memory=mostly([None, 64 * MEBIBYTE], [1, 300_000, 4 * MEBIBYTE, 2**62]),
    cpus=mostly([None, 1.0], [0.01, 1000.0]),
    pids=mostly([None, 64], [1, 2]),
)
VARIABLES = st.dictionaries(
    st.text("ABC_", min_size=1, max_size=3),
    st.text(st.characters(exclude_characters="\0"), max_size=5),
    max_size=2,
)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    """Everything of a specification but its files."""
    command = draw(COMMANDS)
    return {
        "command": command,
        "environment": draw(VARIABLES),
        "readiness": Readiness(command[0] == "/bin/workload", draw(st.sampled_from([None, "ready"]))),
        "limits": draw(LIMITS),
        "host_name": draw(mostly(["box", "a" * 63], ["a" * 65, "with space", "ünicode", ""])),
        "profile": draw(st.sampled_from(["default", "strict", "privileged"])),
        "writable": draw(mostly([None, 0, MEBIBYTE], [1, 2**40])),
        "user": User(uid=draw(IDS), gid=draw(IDS), additional_gids=tuple(draw(st.lists(IDS, max_size=2)))),
        "working_directory": draw(
            mostly(["/", "/tmp"], ["/missing/deep", "/etc/passwd", "relative", "/proc/1"])
        ),
    }


VOLUMES = st.lists(
    st.tuples(mostly(["folder", "file"], ["missing"]), DESTINATIONS, st.booleans(), st.booleans()),
    max_size=2,
)


def state(journal: Journal) -> tuple[object, ...]:
    """What would show that something was left: descriptors, our children, journalled things."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return (
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        sorted(word for file in children for word in file.read_text(encoding="ascii").split()),
        len(journal.entries),
    )


def test_any_specification_runs_or_refuses(journal: Journal, image: Image, tmp_path: Path) -> None:
    """Whatever is asked for is a running container or an error that says why, and leaves nothing."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    controller = detect()
    ended = {"running": 0, "refused": 0}
    with Spawner(journal) as spawner:

        @settings(
            max_examples=60, deadline=None, derandomize=True, database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )  # fmt: skip
        @given(values=parts(), volumes=VOLUMES, groups=st.booleans())
        def check(values: dict[str, Any], volumes: list[tuple[str, str, bool, bool]], groups: bool) -> None:
            mounted = tuple(
                Volume(tmp_path / name, destination, writable, id_map)
                for name, destination, writable, id_map in volumes
            )
            before = state(journal)
            try:
                spec = SandboxSpec(image.rootfs, volumes=mounted, **values)
                with Sandbox(spawner, controller if groups else NoGroups("for this test"), spec) as sandbox:
                    container = sandbox.start(2)
                    container.stop(0)
                    ended["running"] += 1
            except PybenchError as error:
                ended["refused"] += bool(error.message)
            assert state(journal) == before

        check()
    assert min(ended.values()) >= 5, ended
    assert sum(ended.values()) >= 60
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".journal")} == {
        "folder",
        "file",
    }
