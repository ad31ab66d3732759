"""Reading a bundle: a directory with a `config.json` and a root filesystem."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from pybench.runtime.container.specification.decode import decode, show
from pybench.runtime.container.specification.model import Process, Root, Specification
from pybench.runtime.container.specification.rules import check_process, check_rules
from pybench.runtime.container.specification.support import check_support
from pybench.runtime.container.system_calls import open_in_root
from pybench.runtime.errors import InputError

CONFIGURATION: Final = "config.json"
LARGEST_DOCUMENT: Final = 1 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A specification that can be carried out, and where it was read."""

    directory: Path
    specification: Specification
    warnings: tuple[str, ...]
    """One for each property that no version known here defines, or that the kernel will not grant."""

    @property
    def root(self) -> Path:
        """The root filesystem on the host."""
        assert self.specification.root is not None, "checked by the rules"  # noqa: S101
        return self.directory / self.specification.root.path


def load_bundle(directory: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        InputError: it is not readable, or its specification is wrong or asks for what is not supported;
            names the file and the path of the key.
    """
    text = _read_beneath(directory, CONFIGURATION)
    specification, warnings = parse(text, str(directory / CONFIGURATION))
    return Bundle(directory.absolute(), specification, warnings)


def parse(text: bytes, source: str = CONFIGURATION) -> tuple[Specification, tuple[str, ...]]:
    """A whole document, checked; with its warnings.

    Raises:
        InputError: names `source` and the path of the key.
    """
    try:
        warnings: list[str] = []
        specification = decode(Specification, load_json(text), "", warnings)
        check_support(specification)
        warnings += check_rules(specification)
    except InputError as error:
        raise InputError(f"{source}: {error.message}", error.hint) from error
    return specification, tuple(warnings)


def parse_process(text: bytes, source: str) -> tuple[Process, tuple[str, ...]]:
    """A process that is to join a container, as in the file that `exec --process` names.

    Raises:
        InputError: names `source` and the path of the key.
    """
    try:
        warnings: list[str] = []
        process = decode(Process, load_json(text), "process", warnings)
        check_support(Specification(oci_version="1.2.0", root=Root(path="rootfs"), process=process))
        warnings += check_process(process)
    except InputError as error:
        raise InputError(f"{source}: {error.message}", error.hint) from error
    return process, tuple(warnings)


def load_json(text: bytes) -> object:
    """JSON as the standard has it: in UTF-8, no key twice in an object, and numbers that are numbers.

    Raises:
        InputError: it is something else.
    """
    if len(text) > LARGEST_DOCUMENT:
        raise InputError(f"the document is larger than {LARGEST_DOCUMENT} bytes")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_not_a_number)
    except RecursionError:
        raise InputError("the document is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"the document is not JSON in UTF-8: {error}") from error


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Programs differ in which of two equal keys they take: what was checked may not be what is run."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise InputError(f"the key {show(twice)} is given twice in one object")
    return found


def _not_a_number(text: str) -> Never:
    raise InputError(f"{text} is not a number in JSON")


def _read_beneath(directory: Path, name: str) -> bytes:
    """A regular file of a directory; a symbolic link is followed only as if the directory were the root."""
    path = directory / name
    try:
        descriptor = open_in_root(directory, name)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path}: is not a regular file")
            # The descriptor names the very file that was looked at, whatever happens to the path since.
            with Path(f"/proc/self/fd/{descriptor}").open("rb") as file:
                return file.read(LARGEST_DOCUMENT + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        hint = "a bundle is a directory with a config.json and a root filesystem; `runc spec` writes one"
        raise InputError(f"{path}: {os.strerror(error.errno or 0)}", hint) from error
