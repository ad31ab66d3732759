"""The fingerprint tells what this host tells elsewhere, and which differences forbid a comparison."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from pybench.harness.environment import MUST_MATCH, Mismatch, capture, mismatches
from pybench.harness.environment.host import cgroup_version, storage_of
from pybench.harness.environment.reading import file_hash
from pybench.harness.environment.software import code_hash, commit
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
    assert fields["host.kernel.command_line"] in Path("/proc/cmdline").read_text()
    assert fields["host.user"] == ("root" if os.geteuid() == 0 else "rootless")


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
    assert mismatches(one, other) == (
        Mismatch("host.kernel", "6.1", "6.2"),
        Mismatch("host.smt", None, "on"),
    )
    assert mismatches(one, one) == ()


def test_what_must_match_is_captured() -> None:
    """Each declared field is one that can occur, so that a typing error cannot weaken the check."""
    optional = {
        *("host.governor", "host.smt", "host.thp", "host.ksm", "host.cpu.microcode", "host.numa"),
        *("software.qemu", "software.libvirt"),
    }
    captured = capture(["process"], {}).fields
    missing = {rule for rule in MUST_MATCH if not any(f"{name}.".startswith(rule) for name in captured)}
    assert missing <= optional


def test_one_unlike_mitigation_is_told_by_name() -> None:
    """A rule that ends with a dot covers every field below it, on either side."""
    one = Environment({"host.mitigation.meltdown": "Mitigation: PTI"})
    other = Environment({"host.mitigation.mds": "Vulnerable", "host.mitigation.meltdown": "Mitigation: PTI"})
    assert mismatches(one, other) == (Mismatch("host.mitigation.mds", None, "Vulnerable"),)


def test_the_storage_is_that_of_the_mount(tmp_path: Path) -> None:
    """File system and device come from the mount whose device number the path has."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mountinfo = f"22 1 0:1 / /proc rw - proc proc rw\n23 1 {number} / / rw - btrfs /dev/nvme0n1 rw\n"
    assert (storage_of(tmp_path, mountinfo) or "").startswith("btrfs on nvme0n1")
    assert storage_of(tmp_path, "") is None
    assert storage_of(tmp_path / "missing", mountinfo) is None


def test_the_code_hash_is_of_the_installed_code(tmp_path: Path) -> None:
    """It is stable, and a hash of a file that cannot be read is left out instead of guessed."""
    assert code_hash() == code_hash()
    assert file_hash(tmp_path / "missing") is None
