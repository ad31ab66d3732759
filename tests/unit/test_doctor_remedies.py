"""What `pybench doctor --fix` would run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.harness import doctor
from pybench.harness.cli.main import run as command_line
from pybench.harness.doctor import Check, remedies

Captured = pytest.CaptureFixture[str]

TOOLS = Check("tools", "missing", "no zstd", packages=("zstd", "lz4"))
LIBVIRT = Check("libvirt", "missing", "no driver", packages=("qemu-system-x86", "lz4"))
IMAGE = Check("image", "degraded", "not built", commands=(("pybench", "images", "build", "minimal"),))
FINE = Check("seccomp", "ok", "works", packages=("never",))


@pytest.mark.parametrize(("uid", "sudo"), [(0, []), (1000, ["sudo"])])
def test_packages_are_installed_at_once_and_first(
    monkeypatch: pytest.MonkeyPatch, uid: int, sudo: list[str]
) -> None:
    """Each package once, by root or through sudo; the image is built by whoever asks."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    found = [list(command) for command in remedies([FINE, IMAGE, TOOLS, LIBVIRT])]
    install = ["apt-get", "install", "--no-install-recommends", "lz4", "qemu-system-x86", "zstd"]
    assert found == [[*sudo, *install], ["pybench", "images", "build", "minimal"]]
    assert remedies([FINE]) == []


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that lacks what making one file mends; the file."""
    made = tmp_path / "made"
    check = Check("file", "missing", "it is not there", commands=(("touch", str(made)),))
    monkeypatch.setattr(doctor, "examine", lambda _: [FINE if made.exists() else check])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return made


def test_nothing_is_run_unasked(broken: Path, capsys: Captured) -> None:
    """Without a terminal the command is printed, and the exit code still says that something is missing."""
    assert command_line(["doctor", "--fix"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"touch {broken}"
    assert not broken.exists()


def test_what_was_mended_is_looked_at_again(broken: Path, capsys: Captured) -> None:
    """With --yes the command is run, and its success makes the exit code."""
    assert command_line(["doctor", "--fix", "--yes"]) == 0
    assert broken.exists()
    assert command_line(["doctor", "--fix"]) == 0
    assert "nothing to mend" in capsys.readouterr().err


def test_a_remedy_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, broken: Path, capsys: Captured) -> None:
    """With the command and its exit code; no traceback, also if there is no such program."""
    for command, said in ((("false",), "exit code 1"), (("no-such-program",), "No such file")):
        check = Check("file", "missing", "it is not there", commands=(command,))
        monkeypatch.setattr(doctor, "examine", lambda _, check=check: [check])
        assert command_line(["doctor", "--fix", "--yes"]) == 3
        err = capsys.readouterr().err
        assert said in err
        assert "Traceback" not in err
    assert not broken.exists()
