"""The site of all runs, opened from a disk and from a web server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from gate_runs import store_night

from pybench.harness.gate.past import standing
from pybench.harness.store import Store
from pybench.reports.site import build_site

if TYPE_CHECKING:
    from conftest import OpenPage


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Not to the terminal."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of fourteen nights, of which the last four are slower."""
    folder = tmp_path_factory.mktemp("site")
    with Store.open(folder / "pybench.sqlite") as store:
        for number in range(14):
            store_night(store, number, {"startup.ready": 1.3} if number > 9 else None)
        store.tags.set("main", "night-08")
        build_site(folder / "site", store, lambda run, samples: standing(store, run, samples))
    return folder / "site"


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where a web server of its own serves the site, on a port that nobody else has."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("place", ["disk", "server"])
def test_leads_from_the_index_to_trends_and_runs(
    open_page: OpenPage, site: Path, address: str, screenshots: Path, place: str
) -> None:
    """Index, trends and reports open in silence, draw their figures, and fetch nothing from elsewhere."""
    start = site.as_uri() if place == "disk" else address
    opened = open_page(f"{start}/index.html")
    page = opened.page
    page.screenshot(path=screenshots / "site-index.png", full_page=True)
    page.get_by_role("link", name="trends").click()
    page.wait_for_selector("html[data-drawn]")
    assert page.locator(".drawing .main-svg").count() >= 2
    page.screenshot(path=screenshots / "site-trends.png", full_page=True)
    page.get_by_role("link", name="its report").click()
    page.wait_for_selector("html[data-drawn][data-unpacked]")
    assert page.locator("#history .worse").count() >= 1
    page.get_by_role("link", name="pybench").click()
    page.locator(".runs tbody tr").last.locator("a").click()
    page.wait_for_selector("html[data-unpacked]")
    assert "pybench report night-00" in page.inner_text("footer")
    assert opened.problems == []
    assert {url.split("/site/")[0] if place == "disk" else url[: len(address)] for url in opened.requests
            if not url.startswith("data:")} == {start.removesuffix("/site")}  # fmt: skip


def test_accessible_and_fits_a_phone(open_page: OpenPage, site: Path) -> None:
    """No serious finding of axe on index and trends, and at 390 pixels neither scrolls sideways."""
    for name in ("index.html", "scenarios/startup.html"):
        page = open_page(f"{site.as_uri()}/{name}", viewport={"width": 390, "height": 844}).page
        grave = [
            each["id"]
            for each in Axe().run(page).response["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
        assert grave == []
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
