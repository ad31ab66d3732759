"""Reports by keyboard alone, and as a screen reader finds them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from audit_samples import audit_samples
from report_runs import failed_sample, make_run, make_samples
from waiting import wait_until

from pybench.reports.comparison import render_comparison
from pybench.reports.html import write_report

if TYPE_CHECKING:
    from conftest import Opened, OpenPage
    from playwright.sync_api import Page

MOST_STOPS = 400
RING = 5
"""Pixels that the ring around what has the focus takes on each side."""
JUDGED = (
    "[...document.querySelectorAll('.scroll')].filter(place => place.checkVisibility())"
    ".every(place => (place.tabIndex === 0) === {overflows})"
)
OVERFLOWS = "(place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight)"
FOCUSED = """ring => {
    const node = document.activeElement;
    if (!node || node === document.body) return null;
    const box = node.getBoundingClientRect();
    const style = getComputedStyle(node);
    let whole = true;
    for (let place = node.parentElement; place && place !== document.body; place = place.parentElement) {
        if (getComputedStyle(place).overflowX === "visible") continue;
        const edge = place.getBoundingClientRect();
        whole &&= box.left - ring >= edge.left && box.right + ring <= edge.right;
    }
    window.stops = (window.stops || []).concat(node);
    const before = window.stops.at(-2);
    return {
        html: node.outerHTML.slice(0, 200),
        inOrder: !before || !!(before.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING),
        ring: style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2 && style.opacity === "1",
        seen: box.bottom > 0 && box.top < innerHeight && box.width > 0,
        whole,
    };
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with whatever can be operated."""
    samples = [*make_samples({"process": 12, "vm": 12}), *audit_samples(), failed_sample("vm", "not ready")]
    return write_report(tmp_path_factory.mktemp("keyboard") / "report.html", make_run(), samples).as_uri()


@pytest.fixture
def opened(open_page: OpenPage, report: str) -> Opened:
    """The report, its figures drawn."""
    opened = open_page(report, reduced_motion="reduce")
    opened.page.wait_for_selector("html[data-drawn][data-unpacked]")
    return opened


def walk(page: Page) -> list[dict[str, Any]]:
    """Every stop of the keyboard from the top of the page to its end."""
    wait_until(page, JUDGED.format(overflows=OVERFLOWS))
    stops: list[dict[str, Any]] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED, RING)
        if stop is None:
            return stops
        stops.append(stop)
    pytest.fail(f"the keyboard does not come to the end of the page in {MOST_STOPS} stops")


def spoken(page: Page) -> list[tuple[str, str, int]]:
    """What a screen reader is told: role, name, and the number of parts of each node."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    parts = {each["nodeId"]: each for each in nodes}
    return [
        (
            each["role"]["value"],
            each.get("name", {}).get("value", ""),
            sum(not parts[child]["ignored"] for child in each.get("childIds", []) if child in parts),
        )
        for each in nodes
        if not each["ignored"]
    ]


def test_the_keyboard_goes_through_a_report(opened: Opened) -> None:
    """Tab comes to every control in the order of the page, with a ring to see, and out at its end."""
    page = opened.page
    stops = walk(page)
    controls = page.locator(
        "a[href]:visible, button:visible:enabled, input:visible, select:visible, summary:visible"
    )
    places = page.locator(".scroll[tabindex]:visible, pre[tabindex]:visible")
    assert len(stops) == controls.count() + places.count()
    for stop in stops:
        assert stop["inOrder"], stop["html"]
        assert stop["ring"], stop["html"]
        assert stop["seen"], stop["html"]
    assert [stop["html"] for stop in stops if not stop["whole"] and 'class="scroll' not in stop["html"]] == []
    assert opened.problems == []


def test_only_what_scrolls_is_a_stop(opened: Opened) -> None:
    """A table that fits its place is no stop of the keyboard; it becomes one where the page is narrow."""
    page = opened.page
    table = page.locator(".scroll:has(table.metric)").first
    wait_until(page, "!document.querySelector('.scroll:has(table.metric)').hasAttribute('tabindex')")
    page.set_viewport_size({"width": 390, "height": 844})
    wait_until(page, "document.querySelector('.scroll:has(table.metric)').tabIndex === 0")
    table.focus()
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.querySelector('.scroll:has(table.metric)').scrollLeft > 0")


def test_what_is_read_aloud_has_names_of_its_own(opened: Opened) -> None:
    """A figure is its label alone, and no two things that open, and no two figures, have one name."""
    nodes = spoken(opened.page)
    figures = [(name, parts) for role, name, parts in nodes if role == "image"]
    assert figures
    assert [(name, parts) for name, parts in figures if not name or parts] == []
    opening = [name for role, name, _ in nodes if role == "DisclosureTriangle"]
    assert "leak: M4 on process" in opening
    assert all(first != second for names in (opening, [name for name, _ in figures])
               for first, second in pairwise(sorted(names)))  # fmt: skip
    assert {"Position", "Value"} <= {name for role, name, _ in nodes if role == "button"}


def test_a_sorted_table_says_so(opened: Opened) -> None:
    """The live region tells by which column the samples stand, and a link to a cell works a second time."""
    page = opened.page
    status = page.locator("#samples-status[role=status]")
    assert status.inner_text().endswith("sorted by position, ascending.")
    page.locator("#samples-table th[data-column=value] button").press("Enter")
    page.keyboard.press("Enter")
    assert status.inner_text().endswith("sorted by value, descending.")
    link = page.get_by_role("link", name="12 samples of vm, Teardown")
    for _ in range(2):
        link.press("Enter")
        wait_until(page, "document.querySelector('#samples-status').textContent.includes('of 12 found')")
        page.fill("#samples-search", "nowhere")
        assert status.inner_text().startswith("No sample")


def test_the_keyboard_goes_through_a_comparison(open_page: OpenPage, tmp_path: Path) -> None:
    """What opens in a comparison says of which probe, target and run it tells."""
    runs = [(make_run(id=name), [*make_samples({"vm": 8}), *audit_samples()]) for name in ("first", "second")]
    path = tmp_path / "comparison.html"
    path.write_text(render_comparison(runs), encoding="utf-8")
    opened = open_page(path.as_uri(), reduced_motion="reduce")
    opened.page.wait_for_selector("html[data-drawn]")
    assert all(stop["inOrder"] and stop["ring"] and stop["seen"] for stop in walk(opened.page))
    opened.page.locator("#isolation details > summary").first.press("Enter")
    opening = [name for role, name, _ in spoken(opened.page) if role == "DisclosureTriangle"]
    assert "leak: M4 on process, first" in opening
    assert len(set(opening)) == len(opening)
