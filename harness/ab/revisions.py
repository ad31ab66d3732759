"""Revisions of a project, taken out of its repository into a folder that lasts as long as the comparison.

A revision of pybench itself is built and installed into a virtual environment of its own, so that each side
is measured by its own harness; of any other project it is the scenario that differs, with all that lies
beside it.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import HostError, InputError
from pybench.runtime.journal import open_journal
from pybench.runtime.output import printable
from pybench.vm_images import commands

if TYPE_CHECKING:
    from pybench.harness.ab.sides import Side
    from pybench.harness.runner.execution import Tell

DISTRIBUTION: Final = "pybench-harness"
_RECIPES: Final = "PYBENCH_RECIPES"
_RUNS: Final = "runs"
_THIS: Final = (sys.executable, "-c", "from pybench.harness.cli.main import main; main()")
_LONGEST_COMPLAINT: Final = 2000
_BUILD_TIMEOUT: Final = 1800.0
"""Seconds for one step: the C code is small, but a requirement may have to be built, too."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """One side, ready to be measured."""

    side: Side
    commit: str
    command: tuple[str, ...]
    """What is called as `pybench`."""
    scenario: Path
    environment: Mapping[str, str]
    """Of the process."""
    folder: Path
    """For whatever its runs write; removed with the rest."""


def repository_of(folder: Path) -> Path:
    """The top of the git repository that a folder lies in.

    Raises:
        InputError: it lies in none, or git refuses.
        HostError: git is not installed.
    """
    found = _git(folder, "rev-parse", "--show-toplevel", problem=f"{folder}: this is in no git repository")
    return Path(found)


@contextmanager
def checkouts(
    repository: Path, sides: Sequence[Side], scenario: Path, tell: Tell
) -> Iterator[tuple[Checkout, ...]]:
    """Both revisions, each in a folder of its own; both folders are removed at the end.

    The repository is not touched: the files come from `git archive`, so that submodules and the content of
    large files that git keeps elsewhere are not there.

    Args:
        repository: its top.
        sides: what to take out of it.
        scenario: a file; of pybench's own revisions it is what both measure, of another project's it must lie
            in the repository, and each side measures its own state of it.
        tell: is told what is being built.

    Raises:
        InputError: there is no such revision, or no such scenario in it.
        HostError: a revision cannot be built here.
    """
    commits = [_commit(repository, each) for each in sides]
    with open_journal() as journal:
        folder, number = journal.make_directory("directory", "ab-")
        try:
            trees = []
            for each, commit in zip(sides, commits, strict=True):
                trees.append(folder / each.label)
                _extract(repository, commit, trees[-1])
            (folder / _RUNS).mkdir()
            of_pybench = [_is_pybench(tree) for tree in trees]
            made = _of_pybench if all(of_pybench) else _of_project
            yield tuple(
                made(repository, tree, each, commit, scenario, tell)
                for each, commit, tree in zip(sides, commits, trees, strict=True)
            )
        finally:
            shutil.rmtree(folder)
            journal.forget(number)


def _of_pybench(  # noqa: PLR0917 - as of a project
    repository: Path,  # noqa: ARG001
    tree: Path,
    each: Side,
    commit: str,
    scenario: Path,
    tell: Tell,
) -> Checkout:
    """A side whose harness is of its revision."""
    command = _built(tree.parent, tree, each, tell)
    return Checkout(each, commit, command, scenario.absolute(), dict(os.environ), tree.parent / _RUNS)


def _of_project(  # noqa: PLR0917 - as of pybench
    repository: Path,
    tree: Path,
    each: Side,
    commit: str,
    scenario: Path,
    tell: Tell,  # noqa: ARG001
) -> Checkout:
    """A side whose scenario, and whose recipes if they lie in the repository, are of its revision."""
    try:
        inside = scenario.resolve().relative_to(repository.resolve())
    except ValueError:
        hint = "name a scenario file of the project whose revisions are compared"
        raise InputError(f"{scenario}: this is not in the repository {repository}", hint) from None
    file = tree / inside
    if not file.is_file():
        raise InputError(f"--{each.label} {each.revision}: there is no {inside} in this revision")
    environment = dict(os.environ)
    if recipes := environment.get(_RECIPES):
        place = Path(recipes).resolve()
        if place.is_relative_to(repository.resolve()):
            environment[_RECIPES] = str(tree / place.relative_to(repository.resolve()))
    return Checkout(each, commit, _THIS, file, environment, tree.parent / _RUNS)


def _is_pybench(tree: Path) -> bool:
    try:
        described = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    project = described.get("project")
    return isinstance(project, dict) and project.get("name") == DISTRIBUTION


def _built(folder: Path, tree: Path, each: Side, tell: Tell) -> tuple[str, ...]:
    """The command of a virtual environment that has this revision of pybench.

    What it depends on is taken from this environment where it is there, so that both sides have the same
    versions of everything else and little is downloaded.
    """
    tell(f"building {each.revision} …")
    wheels, home = folder / f"{each.label}-wheel", folder / f"{each.label}-venv"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    what = f"--{each.label} {each.revision}: this revision cannot be built"
    _build([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(tree)], what)
    _build([sys.executable, "-m", "venv", "--without-pip", str(home)], what)
    python = home / "bin" / "python"
    packages = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    (wheel,) = map(str, wheels.glob("*.whl"))
    install = [*pip, "--python", str(python), "install"]
    _build([*install, "--no-deps", "--ignore-installed", wheel], what)
    # A second time for what this environment lacks of its requirements.
    _build([*install, wheel], what)
    return (str(home / "bin" / "pybench"),)


def _build(command: Sequence[str], what: str) -> None:
    """Carry out one step of building.

    Raises:
        HostError: it fails, or does not end.
    """
    try:
        # Its compilers end with it, if a signal comes, and with this process, if that is killed.
        commands.run(commands.tied(command), package="util-linux", timeout=_BUILD_TIMEOUT)
    except commands.CommandError as error:
        said = printable(error.output[-_LONGEST_COMPLAINT:].encode()).strip()
        raise HostError(
            f"{what}: {said or error.message}", "`pybench doctor` tells what is missing"
        ) from error
    except HostError as error:
        raise HostError(f"{what}: {error.message}", error.hint) from error


def _commit(repository: Path, each: Side) -> str:
    """The commit that a revision names."""
    problem = f"--{each.label} {each.revision}: there is no such revision in {repository}"
    return _git(
        repository,
        "rev-parse",
        "--verify",
        "--end-of-options",
        f"{each.revision}^{{commit}}",
        problem=problem,
    )


def _extract(repository: Path, commit: str, tree: Path) -> None:
    archive = tree.with_suffix(".tar")
    problem = f"{repository}: cannot take {commit} out of the repository"
    _git(repository, "archive", "--format=tar", f"--output={archive}", commit, problem=problem)
    tree.mkdir()
    _run(["tar", "-xf", str(archive), "-C", str(tree)], problem=problem)
    archive.unlink()


def _git(folder: Path, *arguments: str, problem: str) -> str:
    return _run(["git", "-C", str(folder), *arguments], problem=problem)


def _run(command: Sequence[str], *, problem: str) -> str:
    """What a command says.

    Raises:
        InputError: it fails.
        HostError: it is not installed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise HostError(f"{command[0]} is not installed", f"apt-get install {command[0]}")
    done = subprocess.run([program, *command[1:]], check=False, capture_output=True)
    if done.returncode:
        said = printable(done.stderr[-_LONGEST_COMPLAINT:]).strip().removeprefix("fatal: ")
        raise InputError(f"{problem}: {said}" if said else problem)
    return done.stdout.decode(errors="replace").strip()
