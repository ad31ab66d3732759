"""A kernel from the distribution's source: built once, kept, verified, and every failure told.

The source is a stand-in that is built in a moment: what matters is what the builder asks of it.
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from apt_repository import Repository
from patience import PATIENCE

from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import cache, inputs, kernel_build

VERSION = "9.9.1-1"
# Written by the assembler, as a kernel is; the note is what makes it one for QEMU.
SOURCE = b"""
    .section .note.Xen, "a", @note
    .long 4, 8, 18
    .asciz "Xen"
    .quad 0x100000
    .text
    .globl _start
_start: hlt
"""
MAKEFILE = b"""
allnoconfig:
	@grep -v '^CONFIG_GONE=' $(KCONFIG_ALLCONFIG) > .config
kernelrelease:
	@echo 9.9.1-stand-in
vmlinux:
	@echo "$(KBUILD_BUILD_USER) $(KBUILD_BUILD_TIMESTAMP)" > built-by
	@if test -e slow; then exec sleep 600; fi
	@test ! -e broken || { echo 'file.c:1: error: no such thing' >&2; exit 1; }
	@gcc -nostdlib -static -no-pie -o vmlinux kernel.S
"""


def source_archive(*more: str) -> bytes:
    """The archive inside the source package, with empty files beside what is always there."""
    files = {"Makefile": MAKEFILE, "kernel.S": SOURCE, **dict.fromkeys(more, b"")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"linux-source-9.9/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Have apt offer a source package."""
    repository = Repository(folder)
    repository.use(monkeypatch)
    repository.add("linux-source", VERSION, {}, "linux-source-9.9")
    content = {"usr/src/linux-source-9.9.tar.xz": source_archive(*more)}
    repository.add("linux-source-9.9", VERSION, content)
    repository.update()


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A list of options."""
    path = tmp_path / "small.config"
    path.write_text("# what it needs\nCONFIG_PVH=y\n")
    return path


def ignore(_: str) -> None:
    """Progress that nobody wants to hear of."""


def test_a_kernel_is_built_once_and_told_apart_by_its_options(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request takes what is there, whatever comments say; other options make another kernel."""
    offer(tmp_path / "apt", monkeypatch)
    said: list[str] = []
    built = kernel_build.build_kernel(configuration, said.append)
    assert said[-1] == "compiling the kernel 9.9.1-stand-in, which takes minutes"
    assert (built.release, built.versions) == ("9.9.1-stand-in", {"linux-source-9.9": VERSION})
    assert built.options == {"CONFIG_PVH": "y"}
    configuration.write_text("# what was needed once\nCONFIG_PVH=y\n")
    assert kernel_build.build_kernel(configuration, said.append) == built
    assert len([line for line in said if line.startswith("compiling")]) == 1
    configuration.write_text("CONFIG_PVH=y\nCONFIG_SMP=y\n")
    assert kernel_build.build_kernel(configuration, said.append).folder != built.folder
    left = {path.name for path in cache.kernels_directory().iterdir() if path.name[0] == "."}
    assert left == {".small.lock"}


def test_a_damaged_kernel_is_built_again(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that is not what was built never gets into an image."""
    offer(tmp_path / "apt", monkeypatch)
    built = kernel_build.build_kernel(configuration, ignore)
    good = built.vmlinux.read_bytes()
    built.vmlinux.write_bytes(good[:-1] + b"!")
    said: list[str] = []
    assert kernel_build.build_kernel(configuration, said.append).digest == built.digest
    assert "damaged" in said[0]
    assert built.vmlinux.read_bytes() == good


def test_an_option_that_has_no_effect_fails_the_build(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this version of the kernel does not know is named, and no kernel is kept."""
    offer(tmp_path / "apt", monkeypatch)
    configuration.write_text("CONFIG_PVH=y\nCONFIG_GONE=y\n")
    with pytest.raises(InputError, match=r"small\.config: these options have no effect.*: CONFIG_GONE"):
        kernel_build.build_kernel(configuration, ignore)
    assert [path.name for path in cache.kernels_directory().iterdir()] == [".small.lock"]


def test_a_source_that_does_not_compile_is_told_with_its_first_error(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names package, version and the compiler's words."""
    offer(tmp_path / "apt", monkeypatch, "broken")
    with pytest.raises(HostError, match=r"linux-source-9\.9 9\.9\.1-1 does not build: file\.c:1: error"):
        kernel_build.build_kernel(configuration, ignore)


def test_without_source_or_tools_the_hint_says_what_to_install(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive without source packages and a machine without tools are errors of the host."""
    repository = Repository(tmp_path / "apt")
    repository.use(monkeypatch)
    repository.add("something", "1", {})
    repository.update()
    with pytest.raises(HostError, match="no archive that offers the package linux-source"):
        kernel_build.build_kernel(configuration, ignore)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="make is missing") as caught:
        kernel_build.build_kernel(configuration, ignore)
    assert caught.value.hint == "apt-get install make"


def test_a_killed_build_leaves_no_kernel_and_no_compiler(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it compiles, the builder takes make with it, and the next one starts afresh."""
    offer(tmp_path / "apt", monkeypatch, "slow")
    script = (
        "import sys; from pathlib import Path; from pybench.vm_images import kernel_build;"
        "kernel_build.build_kernel(Path(sys.argv[1]), lambda text: print(text, flush=True))"
    )
    command = [sys.executable, "-c", script, str(configuration)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        for line in builder.stdout:
            if line.startswith("compiling"):
                break
        deadline = time.monotonic() + PATIENCE
        while not list(cache.kernels_directory().glob(".small.building-*/source/built-by")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        builder.send_signal(signal.SIGKILL)
    (leftover,) = cache.kernels_directory().glob(".small.building-*")
    deadline = time.monotonic() + PATIENCE
    while _working_in(leftover):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(cache.kernels_directory().glob("small-*"))
    offer(tmp_path / "again", monkeypatch)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(leftover.parent.parent))
    assert kernel_build.build_kernel(configuration, ignore).vmlinux.is_file()
    assert not leftover.exists()


def _working_in(folder: Path) -> list[str]:
    """Processes whose working directory is in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_the_distribution_offers_the_source_of_the_tiny_kernel() -> None:
    """The package that the recipe `tiny` is built from is there to be had; its list of options exists."""
    assert inputs.kernel_configuration("tiny").is_file()
    assert kernel_build.source_package().name.startswith(f"{kernel_build.SOURCE_PACKAGE}-")
