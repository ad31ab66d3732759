"""Waiting for a page whose own rules forbid the evaluation of text, which Playwright needs to wait."""

from __future__ import annotations

import time

from playwright.sync_api import Page

PATIENCE = 30.0
"""Seconds."""


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true in a page."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)
