"""What `compare` and `gate` are given: runs by name, or exported files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pybench.harness.cli.record import open_record
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.export.archive import ArchivedRun
    from pybench.harness.model import Run, Sample
    from pybench.harness.store import Store


@dataclass(slots=True)
class Sides:
    """Finds runs; opens the record only if one of them is not a file."""

    store: str
    results: Path | None
    _record: Store | None = None

    @property
    def record(self) -> Store:
        """The record, opened at its first use."""
        if self._record is None:
            self._record = open_record(self.store, self.results)
        return self._record

    @property
    def opened(self) -> bool:
        """Whether the record was needed."""
        return self._record is not None

    def load(self, name: str) -> tuple[Run, Sequence[Sample]]:
        """A run by name, `FILE`, or `FILE:RUN` for one of several runs in a file.

        Raises:
            InputError: there is no such run or file.
        """
        archived = _archived(name)
        if archived is not None:
            return archived.run, archived.samples
        found = self.record.run(name)
        return found, self.record.samples(found.id)

    def load_whole(self, name: str) -> ArchivedRun:
        """As `load`, with the conditions of the run's steps.

        Raises:
            InputError: there is no such run or file.
        """
        from pybench.harness.export.archive import ArchivedRun  # noqa: PLC0415 - not always needed

        archived = _archived(name)
        if archived is not None:
            return archived
        found = self.record.run(name)
        return ArchivedRun(found, self.record.samples(found.id), self.record.conditions(found.id))

    def close(self) -> None:
        """Close the record if it was opened."""
        if self._record is not None:
            self._record.close()


@contextmanager
def sides(store: str, results: Path | None) -> Iterator[Sides]:
    """Closed at the end."""
    opened = Sides(store, results)
    try:
        yield opened
    finally:
        opened.close()


def _archived(name: str) -> ArchivedRun | None:
    """The run that a name means if it names a file."""
    from pybench.harness.export.archive import is_archive, read_archive  # noqa: PLC0415 - not always needed

    path, _, run = name.rpartition(":")
    if is_archive(name):
        path, run = name, ""
    if path and is_archive(path):
        return _of_archive(read_archive(Path(path)), path, run)
    if re.search(r"\.(parquet|csv|jsonl?)(:|$)", name):
        raise InputError(f"{name}: there is no such file", "name a file that `pybench export` wrote")
    return None


def _of_archive(runs: Sequence[ArchivedRun], path: str, name: str) -> ArchivedRun:
    chosen = [each for each in runs if name in {"", each.run.id}]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(each.run.id for each in runs[:5]) or "none"
    problem = f"there is no run {name!r} in it" if name else f"it holds {len(runs)} runs"
    raise InputError(f"{path}: {problem}", f"write {path}:RUN with one of {known}")
