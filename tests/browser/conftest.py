"""A real Chromium that opens reports from the disk and notes whatever it should not do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pybench.harness.gate.standing import NO_PAST, Standing
from pybench.harness.model import Run, Sample
from pybench.reports.html import write_report

CHROMIUM = os.environ.get("PYBENCH_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Opened:
    """A page with what went wrong in it, and every request other than for the file itself."""

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Opened]
OpenPage = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open an address and note whatever goes wrong there."""
    contexts = []

    def open_it(address: str, **options: Any) -> Opened:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        opened = Opened(context.new_page())
        page = opened.page
        page.on("console", lambda message: opened.problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.problems.append(str(error)))
        page.on("dialog", lambda dialog: opened.problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(address)
        return opened

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture
def open_report(open_page: OpenPage, tmp_path: Path) -> Open:
    """Write a report, open it, and wait until its figures are drawn."""

    def open_it(
        run: Run,
        samples: Sequence[Sample],
        *,
        drawn: bool = True,
        standing: Standing = NO_PAST,
        **options: Any,
    ) -> Opened:
        path = write_report(tmp_path / "report.html", run, samples, (), standing)
        opened = open_page(path.as_uri(), **options)
        if drawn:
            opened.page.wait_for_selector("html[data-drawn][data-unpacked]")
        return opened

    return open_it


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where pictures are kept for people to look at."""
    for name in ("PYBENCH_SCREENSHOTS", "PYBENCH_ARTEFACTS"):
        if folder := os.environ.get(name):
            path = Path(folder) / ("" if name == "PYBENCH_SCREENSHOTS" else "screenshots")
            path.mkdir(parents=True, exist_ok=True)
            return path
    return tmp_path
