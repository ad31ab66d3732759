"""What the tests on the real kernel and the real libvirt share."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import worker_state
from oci_bundles import Runtime
from vm_guests import Guests
from worker_state import is_anothers

from pybench.runtime.journal import Journal, open_journal
from pybench.runtime.leftovers import remove_leftovers
from pybench.runtime.vm.connection import Connection, open_connection
from pybench.vm_images import Image, build

ANOTHER_TEST = 120.0
"""Seconds in which a test that kills something has cleaned up, and then in which one that failed has."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where tests run in several processes, each has mounts and a state directory of its own.

    Otherwise it would see the others' mounts come and go, and they would clean up after runs that it kills.
    The directory is one of the host's, so that what a killed session has left is known to the next.
    """
    if os.geteuid() == 0:
        if hasattr(session.config, "workerinput"):
            worker_state.separate()
        else:
            worker_state.clean_up()


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """When all processes have ended, their state directories go, too."""
    yield
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        worker_state.clean_up()


@pytest.fixture(scope="session")
def image() -> Image:
    """The image `minimal`, built if it is not in the cache."""
    return build("minimal", progress=lambda _text: None)


@pytest.fixture
def journal() -> Iterator[Journal]:
    """A journal of the test's own, where `pybench clean` finds it; the test must leave nothing in it."""
    with open_journal() as opened:
        yield opened
        assert opened.entries == ()


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """One embedded driver of libvirt for the module; it must not leave anything in its journal."""
    with open_journal() as journal:
        with open_connection(journal) as opened:
            yield opened
        assert journal.entries == ()


@pytest.fixture
def guests(connection: Connection, image: Image) -> Iterator[Guests]:
    """Machines of the image `minimal`, of which nothing may be left."""
    made = Guests(connection, image)
    yield made
    assert made.traces() == []


@pytest.fixture
def runtime(tmp_path: Path, image: Image) -> Iterator[Runtime]:
    """`pybench-oci` with a root of its own; the test must leave nothing made with it."""
    made = Runtime(tmp_path, image.rootfs)
    yield made
    made.assert_nothing_is_left()


@pytest.fixture(autouse=True)
def host_unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the host's mounts, control groups, links and our child processes as it found them.

    Beside other processes of tests nothing may come to stay: what they leave by a kill goes with the test.
    """
    before = _host_state()
    yield
    if not hasattr(request.config, "workerinput"):
        assert _host_state() == before
        return
    if added := _await_nothing(before, ANOTHER_TEST):
        # What this test has left must not fail the tests beside it and after it.
        done = _clean_up(before["children"])
        assert done == [], added
        assert _await_nothing(before, 2 * ANOTHER_TEST) == {}


def _await_nothing(before: dict[str, frozenset[str]], patience: float) -> dict[str, frozenset[str]]:
    """What has been added after `patience` seconds, or nothing as soon as nothing has."""
    deadline = time.monotonic() + patience
    while (added := _added(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return added


def _clean_up(expected: frozenset[str]) -> list[str]:
    """End the children that are not expected, and remove what this process's journals tell of; says what."""
    done = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if (name := f"{child.pid} {child.name()}") not in expected:
                child.kill()
                child.wait(ANOTHER_TEST)
                done.append(f"killed {name}")
    return [*done, *remove_leftovers()]


def _added(before: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    after = _host_state()
    return {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]}


def _host_state() -> dict[str, frozenset[str]]:
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    # os.walk passes over what another process removes meanwhile.
    found = [Path(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names]
    groups = {str(path) for path in found if path.match("pybench*") and not is_anothers(path.name)}
    links = {path.name for path in Path("/sys/class/net").iterdir() if not is_anothers(path.name)}
    children = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            children.add(f"{child.pid} {child.name()}")
    return {
        "mounts": frozenset(mounts),
        "control groups": frozenset(groups),
        "links": frozenset(links),
        "children": frozenset(children),
    }
