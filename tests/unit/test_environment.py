"""The fingerprint tells what this host tells elsewhere, and which differences forbid a comparison."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from pybench.harness.environment import MUST_MATCH, capture, cgroup_version, commit, mismatches
from pybench.harness.model import Environment
from pybench.harness.targets.mock import MockImage

V1 = "33 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
V2 = "34 31 0:30 / /sys/fs/cgroup/unified rw shared:9 master:1 - cgroup2 cgroup2 rw\n"
OTHER = "23 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"


def test_the_fingerprint_agrees_with_the_system() -> None:
    """Kernel, processors and interpreter are those that the system's own interfaces tell."""
    fields = capture(["process"], {"minimal": MockImage("minimal", kernel_release="6.1.0-9")}).fields
    assert fields["host.kernel"] == os.uname().release
    assert fields["host.cpu.count"] == str(len(os.sched_getaffinity(0)))
    assert int(fields["host.memory"]) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert fields["software.python"] == platform.python_version()
    assert fields["image.minimal.hash"] == "0" * 64
    assert fields["image.minimal.kernel"] == "6.1.0-9"


def test_every_field_is_dotted_text() -> None:
    """There are no empty values: what the host does not tell is left out."""
    for name, value in capture(["process"], {}).fields.items():
        assert "." in name
        assert value
        assert value == value.strip()


def test_only_a_virtual_machine_needs_its_versions() -> None:
    """QEMU is not asked for its version when none is going to run."""
    assert not {"software.qemu", "software.libvirt"} & set(capture(["process", "container"], {}).fields)


@pytest.mark.parametrize(
    ("mountinfo", "version"),
    [(OTHER + V1, "v1"), (OTHER + V2, "v2"), (OTHER + V1 + V2, "hybrid"), (OTHER, "none"), ("", "none")],
)
def test_the_cgroup_version_is_that_of_the_mounts(mountinfo: str, version: str) -> None:
    """Controllers on v1 with a v2 hierarchy beside them are a hybrid."""
    assert cgroup_version(mountinfo) == version


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as nobody in particular."""
    return subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_commit_is_the_one_that_git_tells(tmp_path: Path) -> None:
    """On a branch, with packed references, detached, and in a linked work tree."""
    repository = tmp_path / "repository"
    repository.mkdir()
    assert commit(repository) is None
    git(repository, "init", "--quiet")
    assert commit(repository) is None
    git(repository, "commit", "--allow-empty", "--message", "one")
    head = git(repository, "rev-parse", "HEAD")
    assert commit(repository) == head
    git(repository, "pack-refs", "--all")
    assert commit(repository) == head
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    assert commit(tmp_path / "linked") == head
    git(repository, "checkout", "--quiet", "--detach")
    assert commit(repository) == head


def test_unlike_hosts_are_told_apart() -> None:
    """Only fields that must match count, and a field that one side lacks is a difference."""
    one = Environment({"host.kernel": "6.1", "host.cpu.model": "A", "host.name": "x"})
    other = Environment({"host.kernel": "6.2", "host.cpu.model": "A", "host.name": "y", "host.smt": "on"})
    assert mismatches(one, other) == {"host.kernel": ("6.1", "6.2"), "host.smt": (None, "on")}
    assert mismatches(one, one) == {}


def test_what_must_match_is_captured() -> None:
    """Each declared field is one that can occur, so that a typing error cannot weaken the check."""
    optional = {"host.governor", "host.smt", "host.thp", "software.qemu", "software.libvirt"}
    assert set(MUST_MATCH) - set(capture(["process"], {}).fields) <= optional
