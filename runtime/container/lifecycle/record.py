"""What is known of a container between two commands: one directory for each, below the runtime's root.

`record.json` is replaced as a whole, so that whoever reads it finds the old or the new one. The
two FIFOs are there as long as the container waits to be started.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pybench.runtime.container.leftovers import start_ticks
from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from pybench.runtime.container.specification.model import Specification

Status = Literal["creating", "created", "running", "paused", "stopped"]

_NAME: Final = re.compile(r"[A-Za-z0-9_+.-]{1,1024}", re.ASCII)
_RECORD: Final = "record.json"
_CONFIGURATION: Final = "config.json"
START_FIFO: Final = "start"
FAILED_FIFO: Final = "failed"
_PAUSED: Final = "paused"
_ATTEMPTS: Final = 20


def default_root() -> Path:
    """/run/pybench-oci for root, else below $XDG_RUNTIME_DIR."""
    if os.geteuid() == 0:
        return Path("/run/pybench-oci")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/pybench-oci-{os.geteuid()}", "pybench-oci")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Record:
    """One container, as it was last written down."""

    id: str
    bundle: str
    oci_version: str
    created: str
    """ISO 8601, UTC."""
    pid: int = 0
    """The host's pid of its first process; 0 before there is one."""
    started: int = 0
    """Clock ticks after boot at which that process started: a reused pid has others."""
    groups: tuple[str, ...] = ()
    """Directories of its control group."""
    groups_above: tuple[str, ...] = ()
    """Directories above them that its creation may have made and not marked, as long as it is incomplete."""
    steps: tuple[str, ...] = ()
    """What each of its steps does, to explain one that fails after the start."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    later_hooks: bool = False
    """There are hooks for after its start or its end."""
    complete: bool = False
    """All has been made; false while it is being created, and for ever if that was interrupted."""
    creator: int = 0
    """The host's pid of whoever creates it."""
    creator_started: int = 0
    """Clock ticks after boot at which that process started."""

    @property
    def alive(self) -> bool:
        """Whether its first process lives; one that has ended and waits to be reaped does not."""
        return _lives(self.pid, self.started)

    @property
    def in_creation(self) -> bool:
        """Whether it is incomplete and somebody is at it."""
        return not self.complete and _lives(self.creator, self.creator_started)


class ContainerDirectory:
    """The directory of one container."""

    def __init__(self, root: Path, identifier: str) -> None:
        """Name it; nothing is read.

        Raises:
            InputError: no container can have this id.
        """
        if not _NAME.fullmatch(identifier) or identifier in {".", ".."}:
            raise InputError(
                f"{identifier[:80]!r} cannot be the id of a container", "use letters, digits and _+.-"
            )
        self.root = root
        self.id = identifier
        self.path = root / identifier

    def make(self) -> None:
        """Make it.

        Raises:
            InputError: there is a container of that id.
            HostError: the root cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
                self.path.mkdir(mode=0o711)
            except FileExistsError:
                raise InputError(
                    f"container {self.id} exists already", f"pybench-oci delete {self.id}"
                ) from None
            except OSError as error:
                # The end of the last other container may have removed the root in between.
                if isinstance(error, FileNotFoundError) and attempt < _ATTEMPTS - 1:
                    continue
                raise HostError(f"{self.path}: {error.strerror}", "choose another with --root") from error
            return

    def remove(self) -> None:
        """Remove it with all it holds. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.leave()

    def leave(self) -> None:
        """Remove the root if no container is in it. Idempotent."""
        with contextlib.suppress(OSError):
            self.root.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """Hold it against other commands on the same container.

        Raises:
            InputError: there is no such container.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._missing() from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self
        finally:
            os.close(descriptor)

    def write(self, record: Record) -> None:
        """Replace the record."""
        self._replace(_RECORD, json.dumps(asdict(record)).encode())

    def read(self) -> Record:
        """The record.

        Raises:
            InputError: there is no such container.
            HostError: what is there is not a record.
        """
        path = self.path / _RECORD
        if not path.exists() and self.path.is_dir():
            # Whoever made the directory was killed before anything else of the container was made.
            return Record(self.id, "", "", "")
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            sequences = {name: tuple(values[name]) for name in ("groups", "groups_above", "steps")}
            return Record(**{**values, **sequences})
        except FileNotFoundError:
            raise self._missing() from None
        except (ValueError, TypeError, KeyError) as error:
            raise HostError(f"{path} is damaged: {error}", f"pybench-oci delete --force {self.id}") from error

    def keep_configuration(self, text: bytes) -> None:
        """Keep the specification as it was when the container was created."""
        self._replace(_CONFIGURATION, text)

    def specification(self) -> Specification:
        """The specification it was created from.

        Raises:
            HostError: it is gone.
        """
        # Half of what most commands would take, which need nothing of it.
        from pybench.runtime.container.specification.bundle import parse  # noqa: PLC0415

        path = self.path / _CONFIGURATION
        try:
            return parse(path.read_bytes(), str(path))[0]
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error

    def status(self, record: Record) -> Status:
        """What it is doing."""
        if record.in_creation:
            return "creating"
        if not record.complete or not record.alive:
            return "stopped"
        if (self.path / _PAUSED).exists():
            return "paused"
        return "created" if (self.path / START_FIFO).exists() else "running"

    def note_pause(self, *, paused: bool) -> None:
        """Remember whether it is paused."""
        if paused:
            (self.path / _PAUSED).touch()
        else:
            (self.path / _PAUSED).unlink(missing_ok=True)

    def state(self, record: Record) -> dict[str, Any]:
        """The state in OCI's words (runtime.md, State)."""
        status = self.status(record)
        return {
            "ociVersion": record.oci_version,
            "id": record.id,
            "status": status,
            "pid": 0 if status == "stopped" else record.pid,
            "bundle": record.bundle,
            "annotations": dict(record.annotations),
        }

    def _replace(self, name: str, content: bytes) -> None:
        """Raises HostError: the directory is full, or was removed by a forced deletion."""
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                Path(temporary).rename(self.path / name)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise HostError(f"{self.path / name}: {error.strerror}") from error

    def _missing(self) -> InputError:
        return InputError(f"container {self.id} does not exist", "`pybench-oci list` shows those there are")


def containers(root: Path) -> Iterator[tuple[ContainerDirectory, Record]]:
    """Every container below a root, by id; damaged ones are left out."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        directory = ContainerDirectory(root, path.name)
        try:
            yield directory, directory.read()
        except (InputError, HostError):
            continue


def with_process(record: Record, pid: int) -> Record:
    """The record once its first process is there."""
    return replace(record, pid=pid, started=start_ticks(pid) or 0)


def unpack_failure(data: bytes) -> tuple[int, int] | None:
    """Index of the step and error number, as a container reports them after its start."""
    record = struct.Struct("=ii")
    return record.unpack_from(data) if len(data) >= record.size else None


def _lives(pid: int, started: int) -> bool:
    return pid > 0 and start_ticks(pid) == started and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}
