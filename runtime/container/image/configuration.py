"""What an image says of how to run it, and which machines it is for (OCI image-spec, config.md)."""

from __future__ import annotations

import platform
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.digest import Digest, parse_digest
from pybench.runtime.container.image.documents import Document, parse_json
from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_HIGHEST_PORT: Final = 65535
_REAL_TIME_SIGNAL: Final = re.compile(r"(?:SIG)?RT(MIN|MAX)(?:([+-])(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, in the words of Go, which OCI uses."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """This machine.

    Raises:
        HostError: a machine that pybench does not know.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise HostError(f"no images are known for this machine: {machine}")
    return Platform("linux", _ARCHITECTURES[machine])


@dataclass(frozen=True, slots=True)
class ImageConfiguration:
    """An image's configuration; absent values are empty."""

    platform: Platform
    layers: tuple[Digest, ...] = ()
    """The digests of the unpacked layers (diff ids), lowest first."""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    """`port/protocol`, or `first-last/protocol`."""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def command(self, arguments: Sequence[str] = ()) -> tuple[str, ...]:
        """The argument vector: Entrypoint, then `arguments`, or Cmd where there are none.

        Raises:
            InputError: the image names no command, and neither do the arguments.
        """
        command = (*self.entrypoint, *(arguments or self.cmd))
        if not command:
            raise InputError("the image has neither Entrypoint nor Cmd", "say which command to run")
        return command

    @property
    def stop_signal_number(self) -> int:
        """The signal that asks the container to stop; TERM unless the image names another.

        Raises:
            InputError: no signal of Linux is called so.
        """
        name = self.stop_signal.upper()
        if not name:
            return signal.SIGTERM
        if match := _REAL_TIME_SIGNAL.fullmatch(name):
            base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
            number = base + int(f"{match[2] or '+'}{match[3] or 0}")
        elif name.isascii() and name.isdigit() and len(name) <= 2:  # noqa: PLR2004 - there are 64
            number = int(name)
        else:
            known = {entry.name.removeprefix("SIG"): int(entry) for entry in signal.Signals}
            number = known.get(name.removeprefix("SIG"), 0)
        if not 1 <= number <= signal.SIGRTMAX:
            raise InputError(f"the image's StopSignal {self.stop_signal[:40]!r} is no signal")
        return number


def parse_configuration(content: bytes, where: str) -> ImageConfiguration:
    """Read a configuration; `where` starts every message.

    Raises:
        InputError: it is no JSON, or a value is not what the specification wants there.
    """
    document = Document(parse_json(content, where), where)
    root = document.object("rootfs")
    kind = root.text("type", "layers")
    if kind != "layers":
        raise InputError(f"{where}: rootfs: type: {kind[:40]!r} is not “layers”")
    config = document.object("config")
    configuration = ImageConfiguration(
        platform=Platform(
            document.required_text("os"), document.required_text("architecture"), document.text("variant")
        ),
        layers=tuple(
            parse_digest(text, f"{where}: rootfs: diff_ids[{index}]")
            for index, text in enumerate(root.texts("diff_ids"))
        ),
        env=config.texts("Env"),
        entrypoint=config.texts("Entrypoint"),
        cmd=config.texts("Cmd"),
        user=config.text("User"),
        working_dir=config.text("WorkingDir"),
        exposed_ports=tuple(sorted(config.object("ExposedPorts").values)),
        volumes=tuple(sorted(config.object("Volumes").values)),
        stop_signal=config.text("StopSignal"),
        labels=config.text_mapping("Labels"),
    )
    _check(configuration, where)
    return configuration


def _check(configuration: ImageConfiguration, where: str) -> None:
    for variable in configuration.env:
        if variable.find("=") < 1:
            raise InputError(f"{where}: config: Env: {variable[:80]!r} is not NAME=value")
    if configuration.working_dir and not configuration.working_dir.startswith("/"):
        raise InputError(f"{where}: config: WorkingDir: {configuration.working_dir[:80]!r} is not absolute")
    for port in configuration.exposed_ports:
        match = _PORT.fullmatch(port)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) <= _HIGHEST_PORT:
            raise InputError(f"{where}: config: ExposedPorts: {port[:80]!r} is no port")
    try:
        _ = configuration.stop_signal_number
    except InputError as error:
        raise InputError(f"{where}: config: {error.message}") from error
