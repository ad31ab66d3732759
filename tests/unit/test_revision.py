"""A run knows the branch and the commit of the project that was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pybench.harness.revision import project_of, revision
from pybench.scenarios import shipped


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as nobody in particular."""
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one commit on a branch of a long name, and a folder in it."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "feature/fast")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    (tmp_path / "scenarios").mkdir()
    return tmp_path


def test_the_branch_is_the_one_checked_out(project: Path, tmp_path: Path) -> None:
    """Also from a folder below, and in a linked work tree."""
    head = git(project, "rev-parse", "HEAD")
    expected = {"source.branch": "feature/fast", "source.commit": head}
    assert revision(project / "scenarios", {}) == expected
    git(project, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "linked"))
    assert revision(tmp_path / "linked", {}) == {"source.branch": "other", "source.commit": head}


def test_a_ci_service_names_the_branch(project: Path) -> None:
    """A detached HEAD has none, and a variable of the service, or the user's own, says which it is."""
    git(project, "checkout", "--quiet", "--detach")
    assert "source.branch" not in revision(project, {})
    assert revision(project, {"GITHUB_REF_NAME": "main", "GITHUB_HEAD_REF": ""})["source.branch"] == "main"
    mine = {"PYBENCH_BRANCH": "mine", "CI_COMMIT_REF_NAME": "main"}
    assert revision(project, mine)["source.branch"] == "mine"


def test_a_shipped_scenario_measures_the_project_that_one_is_in(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pybench is installed is nobody's project; a file of one's own counts wherever one is."""
    monkeypatch.chdir(project / "scenarios")
    assert project_of(str(shipped("startup"))) == project / "scenarios"
    assert project_of("mine.yaml") == project / "scenarios"
    monkeypatch.chdir("/")
    assert project_of(str(shipped("startup"))) == Path("/")
    assert project_of(str(project / "mine.yaml")) == project


def test_outside_a_repository_nothing_is_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fields are left out, not guessed."""
    assert revision(tmp_path_factory.mktemp("bare"), {}) == {}
