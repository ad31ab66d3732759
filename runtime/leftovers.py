"""Removing what harness processes that died left behind, as their journals tell."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pybench.runtime.container.identity import remove_abandoned
from pybench.runtime.container.leftovers import (
    end_session,
    remove_cgroup,
    remove_mount,
    remove_mount_point,
)
from pybench.runtime.container.network.leftovers import remove_link, remove_table
from pybench.runtime.errors import LeftoverError, PybenchError
from pybench.runtime.files import remove_file
from pybench.runtime.ipc_objects import remove_object
from pybench.runtime.journal import (
    Detail,
    Entry,
    journals,
    remove_unfinished,
    state_directory,
    take_abandoned,
)
from pybench.runtime.scratch import remove_scratch
from pybench.runtime.vm.leftovers import remove_domain

Remover = Callable[[Mapping[str, Detail]], str]


def _remove_directory(details: Mapping[str, Detail]) -> str:
    """Remove a journalled directory and what is in it; only ever below the state directory."""
    directory = Path(str(details["path"]))
    if not directory.is_relative_to(state_directory()):
        raise LeftoverError(f"the journal names {directory}, which is not below {state_directory()}")
    if not directory.exists():
        return ""
    shutil.rmtree(directory)
    return f"removed directory {directory}"


REMOVERS: Mapping[str, Remover] = {
    "session": end_session,
    "cgroup": remove_cgroup,
    "mount": remove_mount,
    "mount-point": remove_mount_point,
    "directory": _remove_directory,
    "file": remove_file,
    "scratch": remove_scratch,
    "ipc": remove_object,
    "domain": remove_domain,
    "link": remove_link,
    "nftables": remove_table,
}
"""By kind of journal entry; each says in one line what it did, or nothing if there was nothing to do."""


def remove_leftovers() -> Iterator[str]:
    """Undo every journal whose owner is dead, newest entry first; yields what was done.

    Raises:
        LeftoverError: something could not be removed; the journal is kept and the rest was tried.
    """
    remove_abandoned()
    for unfinished in remove_unfinished():
        yield f"removed {unfinished}"
    failures: list[str] = []
    for path in journals():
        with_failures: list[str] = []
        try:
            with take_abandoned(path) as entries:
                for entry in entries or ():
                    done = _remove(entry, with_failures)
                    if done:
                        yield done
                if with_failures:
                    # Raised inside, so that the journal survives for the next attempt.
                    raise LeftoverError("; ".join(with_failures))
        except LeftoverError as error:
            failures.append(error.message)
    if failures:
        raise LeftoverError(
            f"not everything could be removed: {'; '.join(failures)}", "run pybench clean again"
        )


def _remove(entry: Entry, failures: list[str]) -> str:
    remover = REMOVERS.get(entry.kind)
    if remover is None:
        return ""
    try:
        return remover(entry.details)
    except (PybenchError, OSError) as error:
        failures.append(f"{entry.kind}: {error}")
        return ""
