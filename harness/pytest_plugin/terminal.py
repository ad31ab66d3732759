"""What happens beside the tests, told in pytest's own terminal report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pybench.harness.runner.execution import Tell


def teller(config: pytest.Config) -> Tell:
    """Writes one line each; nothing where pytest has no terminal report."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"pybench: {line}")

    return tell
