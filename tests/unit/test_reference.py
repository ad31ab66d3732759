"""The generated pages of the documentation: that they are current, complete, and well-formed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pybench.harness.cli.overview import VERBS
from pybench.harness.cli.reference import pages
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.targets import KINDS

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = "python -m pybench.harness.cli.reference docs"
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    """What is committed is what the code says now."""
    path = DOCS / name
    assert path.is_file(), f"run `{COMMAND}`"
    assert path.read_text(encoding="utf-8") == PAGES[name], f"run `{COMMAND}`"


def test_no_page_is_left_of_a_verb_that_is_gone() -> None:
    """There are no others in the folder."""
    assert {path.stem for path in (DOCS / "reference" / "cli").iterdir()} == {*VERBS, "index"}


def test_every_verb_target_and_metric_is_described() -> None:
    """And every page has a title and says where it comes from."""
    for name, text in PAGES.items():
        if name.endswith(".md"):
            assert text.startswith("# ")
            assert COMMAND in text
    for kind in KINDS:
        assert f"\n## {kind}\n" in PAGES["reference/targets.md"]
    for measurement in MEASUREMENTS.values():
        for metric in measurement.metrics:
            assert f"| `{metric.name}` |" in PAGES["reference/metrics.md"]
    for verb in VERBS:
        assert f"pybench {verb} " in PAGES["man/pybench.1"].replace("\n", " ")


def test_no_key_of_the_language_goes_without_a_meaning() -> None:
    """Each row of the keys says what the key takes; few are clear without a sentence."""
    rows = [
        re.split(r"(?<!\\) ?\| ?", line)[1:-1]
        for name in ("scenario", "targets")
        for line in PAGES[f"reference/{name}.md"].splitlines()
        if line.startswith("| `")
    ]
    keys = [row for row in rows if len(row) == 4]
    assert len(keys) > 50
    assert [row[0] for row in keys if row[1] in {"", "anything"}] == []
    assert sum(not row[3] for row in keys) < len(keys) / 5


def test_the_manual_page_is_what_man_reads() -> None:
    """Groff finds nothing to warn about."""
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("there is no groff here")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z"],
        input=PAGES["man/pybench.1"].encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr.decode() == ""
