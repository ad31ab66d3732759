"""Small static programs from C, with musl: no library to load, nothing that depends on the host."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError
from pybench.vm_images import commands

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPILER: Final = "musl-gcc"
PACKAGE: Final = "musl-tools"
ASSEMBLER: Final = "gcc"

_TIMEOUT: Final = 120.0
_FLAGS: Final = (
    "-std=gnu11", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-s",
    "-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables",
    # A build id or a build path would differ from one build to the next.
    "-Wl,--gc-sections,--build-id=none,-z,noexecstack", "-no-pie",
)  # fmt: skip

_BARE_METAL_FLAGS: Final = (
    "-nostdlib", "-static", "-no-pie", "-s", "-Wall", "-Wextra", "-Werror",
    "-Wl,--build-id=none,-z,noexecstack,--nmagic,--no-warn-rwx-segments",
)  # fmt: skip


def compile_static(
    sources: Sequence[Path], output: Path, scratch: Path, *, includes: Sequence[Path] = ()
) -> None:
    """Compile C files into one static executable; the same sources give the same bytes.

    Args:
        sources: the C files.
        output: the executable to write.
        scratch: where a temporary folder may be made.
        includes: headers that the sources may include by their bare names.

    Raises:
        InputError: they do not compile; the message is the compiler's first error.
        HostError: the compiler is missing.
    """
    with tempfile.TemporaryDirectory(prefix="compile-", dir=scratch) as folder:
        # Under their bare names, so that no path of this host gets into the result.
        for source in (*sources, *includes):
            shutil.copyfile(source, Path(folder, source.name))
        names = [source.name for source in sources]
        try:
            command = [COMPILER, *_FLAGS, "-o", "program", *names]
            commands.run(command, package=PACKAGE, directory=Path(folder), timeout=_TIMEOUT)
        except commands.CommandError as error:
            raise InputError(f"{sources[0]} does not compile: {_first_error(error)}", error.hint) from error
        shutil.copyfile(Path(folder, "program"), output)
    output.chmod(0o755)


def assemble_bare_metal(sources: Sequence[Path], script: Path, output: Path, scratch: Path) -> None:
    """Assemble a guest that needs no kernel; the same sources give the same bytes.

    Args:
        sources: assembler files, for the C preprocessor.
        script: the linker script, which decides where everything goes.
        output: the ELF file to write.
        scratch: where a temporary folder may be made.

    Raises:
        InputError: they do not assemble or link; the message is the first error.
        HostError: the compiler is missing.
    """
    with tempfile.TemporaryDirectory(prefix="assemble-", dir=scratch) as folder:
        for source in (*sources, script):
            shutil.copyfile(source, Path(folder, source.name))
        names = [source.name for source in sources]
        command = [ASSEMBLER, *_BARE_METAL_FLAGS, f"-Wl,--script={script.name}", "-o", "guest", *names]
        try:
            commands.run(command, package=ASSEMBLER, directory=Path(folder), timeout=_TIMEOUT)
        except commands.CommandError as error:
            raise InputError(f"{sources[0]} does not assemble: {_first_error(error)}", error.hint) from error
        shutil.copyfile(Path(folder, "guest"), output)


def assembler_version() -> str:
    """What the compiler driver says it is."""
    return _version(ASSEMBLER, ASSEMBLER)


def compiler_version() -> str:
    """What the compiler says it is, such as `cc (Debian 12.2.0-14+deb12u1) 12.2.0`."""
    return _version(COMPILER, PACKAGE)


def _version(program: str, package: str) -> str:
    return commands.printable(commands.run([program, "--version"], package=package).partition("\n")[0])


def _first_error(error: commands.CommandError) -> str:
    lines = [line for line in error.output.splitlines() if "error:" in line or "undefined reference" in line]
    return commands.printable(lines[0]) if lines else error.message
