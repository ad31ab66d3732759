"""Which state of the measured project a run belongs to: its branch and commit, as fields of the environment.

A CI service checks a commit out without a branch and says in its own variables which one it builds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench import scenarios
from pybench.harness.environment.software import commit
from pybench.harness.store import BRANCH

if TYPE_CHECKING:
    from pybench.harness.model import Scenario

COMMIT: Final = "source.commit"
_VARIABLES: Final = ("PYBENCH_BRANCH", "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
"""In this order; PYBENCH_BRANCH is the user's own word, the others are GitHub's and GitLab's."""
_LONGEST: Final = 255
_HEAD: Final = "ref: refs/heads/"


def revision(folder: Path, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The branch and the commit of the project that a folder lies in; what is unknown is left out."""
    root = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)
    named = next((variables[name].strip() for name in _VARIABLES if variables.get(name, "").strip()), "")
    branch = named or (_checked_out(root) if root else "")
    fields = {BRANCH: branch[:_LONGEST], COMMIT: (commit(root) if root else None) or ""}
    return {name: value for name, value in fields.items() if value}


def project_of(source: str) -> Path:
    """A folder in the project that a scenario measures: that of its file; of a shipped one, the current."""
    file = Path(source).absolute()
    return Path.cwd() if scenarios.is_shipped(file) else file.parent


def commit_of(scenario: Scenario) -> dict[str, str]:
    """The commit alone, for runs that must not count as those of a branch."""
    found = revision(project_of(scenario.source))
    return {COMMIT: found[COMMIT]} if COMMIT in found else {}


def _checked_out(root: Path) -> str:
    """The branch that HEAD names; nothing when it names a commit (gitrepository-layout(5))."""
    place = root / ".git"
    try:
        if place.is_file():
            # A linked work tree: the file names the folder that has its HEAD.
            place = root / place.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (place / "HEAD").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return head.removeprefix(_HEAD) if head.startswith(_HEAD) else ""
