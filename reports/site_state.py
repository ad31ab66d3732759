"""What a site remembers of the runs it shows, so that only what is new is read and drawn again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from pybench.harness.errors import InputError
from pybench.harness.gate.verdicts import UNIT
from pybench.harness.model import Run, Sample
from pybench.harness.stats import CellKey, cells, measured
from pybench.harness.store import BRANCH, HOST
from pybench.reports.isolation import LEAK_INDEX
from pybench.reports.numbers import one_line
from pybench.reports.page import write_whole
from pybench.reports.vocabulary import PHASE_PREFIX

STATE: Final = "site.json"
AUDIT: Final = "audit"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a site."""

    id: str
    key: str
    """Changes with whatever of the run the site shows."""
    page: str
    """Relative to the site's folder."""
    scenario: str
    started: str
    status: str
    host: str
    branch: str
    samples: int
    answer: str
    """What its report says first."""
    headline: str
    """The same without the evidence."""
    outcome: str
    """Of the gate, or nothing where that is not known."""
    tags: tuple[str, ...]
    notes: tuple[str, ...]
    medians: tuple[tuple[CellKey, float], ...]

    @property
    def group(self) -> tuple[str, str]:
        """Host and branch: runs of one group are one series."""
        return self.host, self.branch


def key_of(run: Run, samples: int, tags: Sequence[str], notes: Sequence[str]) -> str:
    """The same as long as nothing that the site shows of the run has changed."""
    return json.dumps([run.status, run.finished, samples, sorted(tags), list(notes)])


def entry_of(
    run: Run, samples: Sequence[Sample], indices: Mapping[str, float], *, key: str, page: str, answer: str,
    headline: str, outcome: str, tags: Sequence[str], notes: Sequence[str],
) -> Entry:  # fmt: skip
    """What is remembered of a run; `indices` are the leak indices of its audit by target."""
    fields = run.environment.fields
    return Entry(
        id=run.id,
        key=key,
        page=page,
        scenario=run.scenario,
        started=run.started,
        status=run.status,
        host=one_line(fields.get(HOST, "")),
        branch=one_line(fields.get(BRANCH, "")),
        samples=len(samples),
        answer=answer,
        headline=headline,
        outcome=outcome,
        tags=tuple(tags),
        notes=tuple(notes),
        medians=(*medians_of(samples), *_leak_indices(indices)),
    )


def medians_of(samples: Sequence[Sample]) -> list[tuple[CellKey, float]]:
    """The median of every cell that has one; phases are parts of what is shown, verdicts no quantities."""
    found = []
    for cell, members in cells(samples).items():
        if cell[3] != UNIT and not cell[2].startswith(PHASE_PREFIX) and len(values := measured(members)):
            found.append((cell, float(np.median(values))))
    return found


def _leak_indices(indices: Mapping[str, float]) -> list[tuple[CellKey, float]]:
    return [((AUDIT, target, LEAK_INDEX, "", ""), index) for target, index in indices.items()]


class State(BaseModel):
    """The file."""

    format: Literal[1]
    """A site of another format is built anew."""
    runs: list[Entry]


def read_state(folder: Path) -> dict[str, Entry]:
    """The entries of a site by run; none where there is no site yet, or one of another format.

    Raises:
        InputError: the folder holds something else.
    """
    try:
        state = State.model_validate_json((folder / STATE).read_bytes())
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: the folder is not empty, and what is in it is no site of ours",
                "name a folder that is empty or does not exist",
            ) from None
        return {}
    except OSError as error:
        raise InputError(f"{folder / STATE}: {error.strerror}", "name another folder") from error
    except ValidationError:
        return {}
    return {entry.id: entry for entry in state.runs}


def write_state(folder: Path, entries: Iterable[Entry]) -> None:
    """Remember the entries.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(folder / STATE, State(format=1, runs=list(entries)).model_dump_json())
