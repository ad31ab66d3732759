"""What is said of a host that was slower or faster in one run than in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pybench.reports.numbers import tied

if TYPE_CHECKING:
    from pybench.harness.comparison.pace import Slowdown

NOTEWORTHY: Final = 0.01


def slowdown_told(slowdown: Slowdown) -> str:
    """That the host itself was slower or faster, where that is worth a word."""
    if abs(slowdown.median) < NOTEWORTHY:
        return ""
    word = "slower" if slowdown.median > 0 else "faster"
    share = f"{abs(slowdown.median):.0%}".replace("%", " %")
    return tied(f"The host itself was {share} {word}: what moved alike counts by what exceeds it.")
