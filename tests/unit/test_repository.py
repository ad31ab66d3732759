"""The tree keeps the rules that no linter knows."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("harness", "runtime", "reports", "scenarios", "vm-images", "tests")
LONGEST_MODULE = 600
LARGEST_PICTURE = 200_000
"""Bytes."""


def source_files(*patterns: str, folders: tuple[str, ...] = CODE_FOLDERS) -> list[Path]:
    """The files of the given folders that match one of the patterns."""
    found = [file for folder in folders for pattern in patterns for file in (ROOT / folder).rglob(pattern)]
    assert found, f"no {patterns} in {folders}: is this the source tree?"
    return found


def test_no_module_is_longer_than_600_lines() -> None:
    """A module past 600 lines wants splitting."""
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in source_files("*.py", "*.pyi", "*.c", "*.h", "*.S")
    }
    assert {file: length for file, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_every_test_states_its_behaviour() -> None:
    """Every test function has a docstring."""
    silent = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in source_files("test_*.py", folders=("tests",))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_every_package_is_marked_as_typed() -> None:
    """Each import package ships py.typed, so that its users' type checkers read its types."""
    untyped = [folder for folder in CODE_FOLDERS[:-1] if not (ROOT / folder / "py.typed").is_file()]
    assert untyped == []


def test_every_c_source_of_the_extension_is_in_the_source_distribution() -> None:
    """setup.py names each C file of the container's extension, and each header as a dependency."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    files = [file.relative_to(ROOT) for file in (ROOT / "runtime" / "container").glob("*.[ch]")]
    assert [str(file) for file in files if f'"{file}"' not in setup] == []


def test_readme_opens_with_the_two_commands() -> None:
    """README shows `make run` and `make test` before anything else, and the main job soon after."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = readme.splitlines()[:6]
    assert any(line.strip().startswith("make run") for line in opening)
    assert any(line.strip().startswith("make test") for line in opening)
    assert "pybench run scenarios/startup.yaml" in readme


@pytest.mark.parametrize(
    "document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda p: p.name
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """A relative link in a document names a file of the tree."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_pictures_are_small() -> None:
    """Whoever clones the project downloads them."""
    pictures = [file for file in (ROOT / "docs").rglob("*") if file.suffix in {".png", ".webp", ".svg"}]
    assert pictures
    assert [file.name for file in pictures if file.stat().st_size > LARGEST_PICTURE] == []


def test_changelog_has_a_place_for_the_next_release() -> None:
    """CHANGELOG follows Keep a Changelog: `Unreleased` is the first section, and says something."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    assert sections[1].startswith("[Unreleased]")
    assert re.search(r"^- ", sections[1], flags=re.MULTILINE)


def test_decisions_are_numbered_without_gaps() -> None:
    """docs/adr holds 0001, 0002, … and each page has its number in its title."""
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    titles = [page.read_text(encoding="utf-8").splitlines()[0] for page in pages]
    assert [int(title.removeprefix("# ").partition(".")[0]) for title in titles] == numbers


def test_ci_runs_what_the_readme_promises() -> None:
    """.ci/run calls `make test`, and both it and the set-up are executable."""
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert all((ROOT / ".ci" / name).stat().st_mode & 0o111 for name in ("run", "setup", "check-c"))


def test_default_environments_cover_every_folder_of_tests() -> None:
    """Each folder of tests has its tox environment, and only the benchmarks are left to be asked for."""
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    default = re.search(r"^env_list = (.*)$", tox, flags=re.MULTILINE)
    assert default is not None
    run = {name.strip() for name in default[1].split(",")}
    folders = {file.parent.name for file in source_files("test_*.py", folders=("tests",))}
    assert folders - run <= {"benchmarks"}


def test_import_contracts_know_every_package() -> None:
    """import-linter reads each import package that holds code."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    packages = {
        f"pybench.{folder.replace('-', '_')}" for folder in CODE_FOLDERS[:-1] if folder != "scenarios"
    }
    assert set(settings["root_packages"]) == packages
