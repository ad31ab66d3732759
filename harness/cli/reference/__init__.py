"""The generated pages of the documentation: the command line, scenarios, targets, metrics, and the man page.

`python -m pybench.harness.cli.reference docs` writes them anew; a unit test holds them to what the code says.
"""

from __future__ import annotations

from pybench.harness.cli.reference.language import metrics_page, scenario_page, targets_page
from pybench.harness.cli.reference.manual import manual
from pybench.harness.cli.reference.pages import overview_page, verb_page
from pybench.harness.cli.reference.verbs import verbs

__all__ = ["pages"]


def pages() -> dict[str, str]:
    """Every generated file: its path below the documentation's folder, and its text."""
    every = verbs()
    return {
        "reference/cli/index.md": overview_page(every),
        **{f"reference/cli/{verb.name}.md": verb_page(verb) for verb in every},
        "reference/scenario.md": scenario_page(),
        "reference/targets.md": targets_page(),
        "reference/metrics.md": metrics_page(),
        "man/pybench.1": manual(every),
    }
