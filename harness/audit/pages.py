"""The documents about each category, written from the catalogue so that they cannot go stale.

`python -m pybench.harness.audit.pages docs/isolation` writes them anew.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.catalogue import TITLES, catalogue
from pybench.harness.audit.model import CATEGORIES, KINDS, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybench.harness.audit.model import Category, Kind, Probe

_WIDTH: Final = 118
_WORDS: Final[Mapping[Outcome, str]] = {
    Outcome.ISOLATED: "isolated",
    Outcome.LEAK: "**leak**",
    Outcome.SHARED: "shared by design",
    Outcome.NOT_APPLICABLE: "n/a",
    Outcome.ERROR: "error",
}
KIND_TITLES: Final[Mapping[Kind, str]] = {
    "process": "bare process",
    "chroot": "chroot",
    "container": "our container",
    "strict": "`strict`",
    "privileged": "`privileged`",
    "vm": "virtual machine",
}


def page(category: Category) -> str:
    """The document about one category, as Markdown."""
    probes = [probe for probe in catalogue() if probe.category == category]
    head = ["probe", "severity", *(KIND_TITLES[kind] for kind in KINDS)]
    lines = [
        f"# Isolation: {TITLES[category]}",
        "",
        "Written from the catalogue (`harness/audit/probes/`) by `python -m pybench.harness.audit.pages`.",
        "How the audit works, and what its words mean: [isolation](../isolation.md).",
        "",
        "What to expect:",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for probe in probes:
        expected = (_WORDS[probe.expected.on(kind)] for kind in KINDS)
        lines.append(f"| [{probe.id}](#{_anchor(probe)}) | {probe.severity} | {' | '.join(expected)} |")
    for probe in probes:
        lines += ["", *_section(probe)]
    return "\n".join(lines) + "\n"


def _section(probe: Probe) -> list[str]:
    lines = [f"## {_heading(probe)}", "", *_wrapped(probe.rationale), ""]
    lines += [*_wrapped(f"**How sandboxes handle it.** {probe.handling}"), ""]
    lines += _wrapped(f"**What to do about a leak.** {probe.remediation}")
    if probe.expected.note:
        lines += ["", *_wrapped(f"**Note.** {probe.expected.note[0].upper()}{probe.expected.note[1:]}.")]
    return [*lines, "", *(f"- <{reference}>" for reference in probe.references)]


def _heading(probe: Probe) -> str:
    return f"{probe.id}: {probe.title}"


def _anchor(probe: Probe) -> str:
    """As GitHub and GitLab make it of a heading."""
    kept = "".join(each for each in _heading(probe).lower() if each.isalnum() or each in " -_")
    return kept.replace(" ", "-")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def write_pages(folder: Path) -> list[Path]:
    """Write the document about each category that has probes; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for category in CATEGORIES:
        if any(probe.category == category for probe in catalogue()):
            path = folder / f"{category.replace('_', '-')}.md"
            path.write_text(page(category), encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
