"""The report as Markdown: the same numbers, and foreign text that formats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import HOSTILE, failed_sample, make_run, make_samples, value_sample

from pybench.harness.errors import HostError
from pybench.reports.html import render
from pybench.reports.markdown import escaped, render_markdown
from pybench.reports.pdf import find_chromium, write_pdf


def test_says_what_the_page_says() -> None:
    """Answer, ranking and the medians of every table are the page's."""
    text = render_markdown(make_run(), make_samples()).replace("\u00a0", " ")
    page = render(make_run(), make_samples()).replace("\u00a0", " ")
    for words in ("a container starts 773× faster than the VM", "2.88–3.12 ms", "TCG emulation"):
        assert words in text
        assert words in page
    assert "1. container: " in text
    assert "| vm (TCG emulation) | 2.31 s |" in text


def test_headings_and_tables_are_well_formed() -> None:
    """One title, every row of a table with as many cells as its head."""
    lines = render_markdown(make_run(), [*make_samples(), failed_sample("vm", "no")]).splitlines()
    assert sum(line.startswith("# ") for line in lines) == 1
    width = 0
    for line in lines:
        cells = line.replace("\\|", "").count("|")
        if line.startswith("|"):
            assert width in {0, cells}, line
            width = cells
        else:
            width = 0


def test_hostile_text_stays_text() -> None:
    """Markup, mentions, fences and pipes of a guest are shown, not carried out."""
    reason = "```\n# owned\n</details><script>alert(1)</script>\n````"
    run = make_run("failed", id=HOSTILE[:90], scenario=HOSTILE[:90], command=HOSTILE)
    samples = [
        failed_sample("vm", reason), value_sample("a|b", 1.0, metric="[x](javascript:alert(1)) @all"),
    ]  # fmt: skip
    text = render_markdown(run, samples)
    fenced = text.split("`````")
    assert "</details>" in fenced[1]
    outside = fenced[0] + fenced[2]
    assert "<img" not in outside.split("## Reproduce it")[0]
    assert "a\\|b" in text
    assert "\\[x\\](javascript" in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("- a", "\\- a"), ("a - b", "a - b"), ("*b*", "\\*b\\*"), ("<b>", "&lt;b&gt;"), ("a\n# b", "a \\# b")],
)
def test_only_what_would_format_is_escaped(text: str, expected: str) -> None:
    """Ordinary text reads as it is."""
    assert escaped(text) == expected


def test_a_missing_chromium_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Chromium a PDF is refused with the command that installs it, and exit code 3."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("PYBENCH_CHROMIUM", raising=False)
    with pytest.raises(HostError, match="a PDF needs Chromium") as caught:
        find_chromium()
    assert caught.value.hint == "apt-get install chromium"
    assert caught.value.exit_code == 3


def test_a_browser_that_does_not_print_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that is no Chromium gives an error with what it said, and no file."""
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\necho cannot draw >&2\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PYBENCH_CHROMIUM", str(program))
    with pytest.raises(HostError, match="does not print: cannot draw"):
        write_pdf(tmp_path / "report.pdf", "<p>text</p>")
    assert not (tmp_path / "report.pdf").exists()
