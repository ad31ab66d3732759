"""The HTML report as people meet it: read, operated by keyboard, on a phone, on paper, and under attack."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from audit_samples import audit_samples
from axe_playwright_python.sync_playwright import Axe
from gate_runs import BASE, night_run, night_samples
from load_runs import load_samples
from report_runs import HOSTILE, failed_sample, make_run, make_samples, value_sample
from waiting import wait_until

from pybench.harness.comparison.nights import Night
from pybench.harness.gate.check import GateSettings, Measured, gate
from pybench.harness.gate.standing import Standing
from pybench.harness.stats import measured
from pybench.reports.analysis import analyse
from pybench.reports.comparison import render_comparison
from pybench.reports.decision import decision, ranking, score_text
from pybench.reports.html import render
from pybench.reports.pdf import write_pdf

if TYPE_CHECKING:
    from conftest import Open, OpenPage
    from playwright.sync_api import Page

    from pybench.harness.model import Sample

LETTER_HEIGHT = 30
"""CSS pixels that a level label stays below."""
MOST_SHEETS = 11
"""Of paper for a run of four targets with start-up, teardown and memory."""
NOTHING_INTERESTING = re.compile(r"^(data:|blob:)")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def column(page: Page, number: int) -> list[str]:
    """The texts of one column of the table of samples."""
    return page.locator(f"#samples-table tbody tr td:nth-child({number})").all_inner_texts()


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_loads_in_silence_and_alone(open_report: Open, screenshots: Path) -> None:
    """No message in the console, no request but for the file, and every figure is drawn."""
    opened = open_report(make_run(), make_samples())
    assert opened.problems == []
    assert [url for url in opened.requests if not NOTHING_INTERESTING.match(url)] == [opened.page.url]
    assert opened.page.locator(".drawing .main-svg").count() >= len(opened.page.locator(".drawing").all())
    opened.page.screenshot(path=screenshots / "report-light.png", full_page=True)


def test_answer_names_both_sides_and_the_emulation(open_report: Open) -> None:
    """The first thing to read compares container and VM and says that the VM was emulated."""
    page = open_report(make_run(), make_samples()).page
    answer = page.locator(".answer").inner_text()
    assert "a container starts" in answer
    assert "TCG emulation" in answer
    assert "n\u00a0=\u00a040 and 12" in answer
    assert page.locator(".cautions").get_by_text("hold for hosts without KVM only").count() == 1


def test_figures_name_the_emulation(open_report: Open) -> None:
    """Wherever a figure shows the VM, its label says TCG emulation."""
    page = open_report(make_run(), make_samples()).page
    for figure in page.locator(".drawing").all():
        assert "TCG emulation" in (figure.text_content() or "")


def test_accessible(open_report: Open) -> None:
    """axe-core finds no serious or critical violation in either theme."""
    samples = [*make_samples(), failed_sample("vm", "not ready after 60 s\nlast line of its output")]
    page = open_report(make_run("interrupted"), samples).page
    for _ in range(2):
        violations = Axe().run(page).response["violations"]
        grave = [
            (each["id"], each["nodes"][0]["html"])
            for each in violations
            if each["impact"] in {"serious", "critical"}
        ]
        assert grave == []
        page.click("#theme")


def test_headings_are_in_order(open_report: Open) -> None:
    """One first heading, and no level is skipped on the way down."""
    page = open_report(make_run(), [*make_samples(), failed_sample("vm", "x")]).page
    levels = page.eval_on_selector_all(
        "h1, h2, h3, h4", "nodes => nodes.map(node => Number(node.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_skip_link_is_the_first_stop(open_report: Open) -> None:
    """The first tab stop leads past the navigation to the answer."""
    page = open_report(make_run(), make_samples()).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answer"


def test_sorts_by_keyboard(open_report: Open) -> None:
    """Enter on a column's head sorts by it, again reverses it, and the head says which."""
    page = open_report(make_run(), make_samples()).page
    page.select_option("#samples select[name=metric]", "startup.ready")
    page.select_option("#samples select[name=status]", "counted")
    head = page.locator("#samples-table th[data-column=value]")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 3)[0] == "process"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 3)[:12] == ["vm"] * 12
    assert page.locator("#samples-table th[aria-sort]").count() == 1


def test_filters_by_keyboard_and_says_how_many(open_report: Open) -> None:
    """Typing into the search leaves the samples with all of its words; a live region tells their number."""
    page = open_report(make_run(), make_samples()).page
    page.focus("#samples-search")
    page.keyboard.type("vm teardown")
    assert set(column(page, 3)) == {"vm"}
    assert set(column(page, 4)) == {"teardown"}
    assert "of 13 found" in page.locator("#samples-status[role=status]").inner_text()
    page.keyboard.type(" nowhere")
    assert "No sample" in page.inner_text("#samples-status")


def test_pages_through_all_samples(open_report: Open) -> None:
    """Next and previous show every sample, and the focus is not lost at either end."""
    samples = make_samples({"process": 20})
    page = open_report(make_run(), samples).page
    seen = len(column(page, 1))
    page.focus("#samples-next")
    while page.is_enabled("#samples-next"):
        page.keyboard.press("Enter")
        seen += len(column(page, 1))
    assert seen == len(samples)
    assert page.evaluate("document.activeElement.id") == "samples-previous"


def test_downloads_what_was_found(open_report: Open, tmp_path: Path) -> None:
    """The CSV holds the samples found; a text that a spreadsheet would take for a formula is quoted."""
    page = open_report(make_run(), [*make_samples(), failed_sample("vm", "=1+1")]).page
    page.select_option("#samples select[name=status]", "failed")
    with page.expect_download() as waiting:
        page.click("#samples-download")
    waiting.value.save_as(tmp_path / "samples.csv")
    header, row = (tmp_path / "samples.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("order,repetition,workload,target,metric,value,unit,status")
    assert '"failed"' in row
    assert not re.search(r'"[=+@-]', row)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(open_report: Open, screenshots: Path, scheme: str) -> None:
    """The page takes the system's theme; the button switches page and figures to the other."""
    page = open_report(make_run(), make_samples(), color_scheme=scheme).page
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.drawing .ytick text')).fill"
    before = page.evaluate(paper), page.evaluate(ink)
    assert page.inner_text("#theme") == ("Dark theme" if scheme == "light" else "Light theme")
    page.focus("#theme")
    page.keyboard.press("Enter")
    after = page.evaluate(paper), page.evaluate(ink)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert page.inner_text("#theme") == ("Light theme" if scheme == "light" else "Dark theme")
    page.screenshot(path=screenshots / f"report-switched-from-{scheme}.png", full_page=True)


def test_phone_scrolls_one_way(open_report: Open, screenshots: Path) -> None:
    """At 390 pixels only tables scroll sideways, within themselves; the page does not."""
    opened = open_report(make_run(), make_samples(), **PHONE)
    assert overflow(opened.page) <= 0
    assert opened.problems == []
    opened.page.screenshot(path=screenshots / "report-phone.png", full_page=True)


def test_labels_of_axes_stay_level_on_a_phone(open_report: Open) -> None:
    """No label of an axis is turned, and none stands on the next one."""
    page = open_report(make_run(), make_samples(), **PHONE).page
    boxes = page.eval_on_selector_all(
        ".drawing",
        """nodes => nodes.map(node => [...node.querySelectorAll('.xtick text')].map(text => {
            const { left, right, height } = text.getBoundingClientRect();
            return [left, right, height];
        }))""",
    )
    assert any(boxes)
    assert all(height < LETTER_HEIGHT for labels in boxes for _, _, height in labels)
    for labels in boxes:
        ordered = sorted(labels)
        assert all(first[1] <= second[0] for first, second in pairwise(ordered))


def test_the_decision_fits_a_phone(open_report: Open) -> None:
    """Weights and all targets of the decision are in sight at 390 pixels, without scrolling."""
    page = open_report(make_run(), make_samples(), **PHONE).page
    table = page.locator(".scroll:has(#decision-table)")
    assert table.evaluate("node => node.scrollWidth - node.clientWidth") <= 0


def test_prints(open_report: Open, screenshots: Path) -> None:
    """Paper gets light figures that fit it and the numbers behind them, no controls, and is well filled."""
    page = open_report(make_run(), make_samples(), color_scheme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details.print:not([open])").count() == 0
    widths = "nodes => nodes.map(node => node.getBoundingClientRect().width)"
    assert 660 <= max(page.eval_on_selector_all(".main-svg", widths)) <= 672
    assert page.evaluate("getComputedStyle(document.querySelector('.ytick text')).fill") == "rgb(29, 31, 33)"
    assert not page.is_visible("#theme")
    assert not page.is_visible("#samples-table")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.print[open]").count() == 0
    pdf = page.pdf(path=screenshots / "report.pdf", prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= MOST_SHEETS


def test_verdicts_are_on_paper(open_report: Open) -> None:
    """What stands for a folded verdict is printed, its mark to open it is not."""
    page = open_report(make_run(), [*make_samples(), *audit_samples()]).page
    page.emulate_media(media="print")
    assert page.locator("#probe-M4 summary").nth(1).inner_text() == "leak"
    assert page.locator("#probe-M4 summary").nth(1).is_visible()
    assert not page.locator("details.print > summary").first.is_visible()


def test_useful_without_script(open_report: Open) -> None:
    """With scripts off, answer and tables are there, and what needs a script says so."""
    page = open_report(make_run(), make_samples(), drawn=False, java_script_enabled=False).page
    assert "a container starts" in page.locator(".answer").inner_text()
    assert page.locator("table.metric tbody tr").first.is_visible()
    assert not page.locator("figure").first.is_visible()
    assert page.get_by_text("This table needs a script").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_strings_do_nothing(open_report: Open, screenshots: Path, width: int) -> None:
    """Markup, direction overrides and endless lines from a guest, or in any name, are only shown."""
    run = make_run(
        "failed",
        id=HOSTILE[:90],
        scenario=HOSTILE[:300],
        command=HOSTILE,
        definition=HOSTILE,
        started=HOSTILE[:50],
    )
    samples = [
        *make_samples({"process": 20, "vm": 6}),
        failed_sample("vm", HOSTILE),
        failed_sample(HOSTILE[:150], HOSTILE, order=901, workload=HOSTILE[:150]),
        value_sample(HOSTILE, 1.0, order=902, metric=HOSTILE[:120], accel=HOSTILE, degraded=HOSTILE),
        value_sample("a" * 5000, 2.0, order=903),
    ]
    opened = open_report(run, samples, viewport={"width": width, "height": 900})
    page = opened.page
    assert page.title() != "owned"
    assert opened.problems == []
    assert [url for url in opened.requests if not NOTHING_INTERESTING.match(url)] == [page.url]
    assert overflow(page) <= 0
    assert page.locator("img, b:not(tspan)").count() == 0
    assert "\u202e" not in page.content()
    assert "\\u202e" in page.locator("#failures pre").first.inner_text()
    page.screenshot(path=screenshots / f"report-hostile-{width}.png", full_page=True)


def test_injected_script_is_refused(open_report: Open) -> None:
    """Even markup that got into the page could not run a script of its own or fetch anything."""
    opened = open_report(make_run(), make_samples({"process": 2}))
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            const image = new Image();
            image.src = "https://example.invalid/x.png";
            document.body.append(image);
        }"""
    )
    assert opened.page.title() != "owned"
    assert any("Content Security Policy" in problem for problem in opened.problems)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([], id="none"),
        pytest.param([failed_sample("vm", "no")], id="only-failed"),
        pytest.param([value_sample("vm", 2.0, accel="tcg")], id="one"),
        pytest.param(
            [value_sample("vm", 0.0), value_sample("process", 0.0), value_sample("floor", -1.0)], id="zero"
        ),
        pytest.param([value_sample("vm", 1.0, order=each) for each in range(30)], id="identical"),
        pytest.param([value_sample("vm", float("nan"))], id="not-a-number"),
        pytest.param(make_samples({"container": 12}, warmups=0), id="one-target"),
    ],
)
def test_thin_runs_make_whole_pages(open_report: Open, samples: list[Sample]) -> None:
    """However little was measured, the page has an answer, no errors and no broken section."""
    opened = open_report(make_run("interrupted"), samples)
    assert opened.problems == []
    assert opened.page.locator(".answer").inner_text().strip()
    assert opened.page.locator("main > section:visible h2").count() >= 5
    text = opened.page.inner_text("main")
    assert not re.search(r"\b(nan|None|undefined|inf)\b", text)


def ranked(page: Page) -> list[str]:
    """The targets in the order of the ranking."""
    return page.locator("#ranking li bdi").all_inner_texts()


def test_sliders_rank_again_by_keyboard(open_report: Open) -> None:
    """Moving a weight with the arrow keys ranks at once as the formula says, aloud, and resets."""
    memory_hog = [
        replace(sample, value=sample.value * 1000)
        if sample.target == "container" and sample.metric.startswith("memory") and sample.value
        else sample
        for sample in make_samples()
    ]
    opened = open_report(make_run(), memory_hog)
    page = opened.page
    table = decision(analyse(make_run(), memory_hog))
    assert table is not None
    assert ranked(page) == ["container", "vm"]
    page.focus("input[data-criterion=start]")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    places = ranking(table, {"start": 0, "memory": 2})
    assert ranked(page) == [place.target for place in places] == ["vm", "container"]
    shown = page.locator("#ranking .total").all_inner_texts()
    assert shown == [score_text(place.total.value) for place in places]
    assert page.inner_text("#ranking-status") == "With these weights vm ranks first."
    page.check("input[aria-label='Rank process']")
    assert ranked(page)[0] == "process"
    page.click("#decision-reset")
    assert ranked(page) == ["container", "vm"]
    assert opened.problems == []


def test_weights_are_in_the_address(open_report: Open) -> None:
    """An address with weights opens with these, so that a decision can be sent to somebody."""
    page = open_report(make_run(), make_samples()).page
    page.focus("input[data-criterion=start]")
    page.keyboard.press("ArrowRight")
    address = page.url
    assert address.endswith("#decision/start=4,memory=2")
    page.goto("about:blank")
    page.goto(address)
    assert page.input_value("input[data-criterion=start]") == "4"


def test_links_lead_to_a_cell_and_to_its_samples(open_report: Open) -> None:
    """A row's own link marks it; its number of samples leads to exactly those."""
    page = open_report(make_run(), make_samples()).page
    link = page.get_by_role("link", name="Permanent link to vm, Start until ready")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#startup.ready-hello-vm")
    assert page.locator("tr:target").get_attribute("id") == "startup.ready-hello-vm"
    page.get_by_role("link", name="12 samples of vm, Teardown").click()
    wait_until(page, "document.querySelector('#samples-status').textContent.includes('of 12 found')")
    assert set(column(page, 3)) == {"vm"}
    assert set(column(page, 4)) == {"teardown"}


def test_history_is_beside_its_limit(open_report: Open, screenshots: Path) -> None:
    """Trend, change of level, baseline and verdict are one section; a worse cell is said in words."""
    nights = [night_samples(number, {"startup.ready": 1.3} if number > 9 else None) for number in range(14)]
    runs = [night_run(number) for number in range(14)]
    cells = {("ready", "container", metric, unit, ""): (metric, unit) for metric, unit in BASE}
    series = {
        cell: [Night.of(run.id, cell, measured(s for s in night if s.metric == metric).tolist())
               for run, night in zip(runs, nights, strict=True)]
        for cell, (metric, _) in cells.items()
    }  # fmt: skip
    result = gate(Measured(runs[8].id, nights[8]), Measured(runs[13].id, nights[13]), GateSettings())
    standing = Standing(runs[8], (), result, series, {run.id: run.started for run in runs})
    opened = open_report(runs[13], nights[13], standing=standing)
    text = opened.page.inner_text("#history")
    assert opened.problems == []
    assert "At least one cell is worse than it may be. Baseline: night-08" in text
    assert "worse since night-10" in text
    assert opened.page.locator("#history .worse").first.inner_text() == "slower — worse"
    opened.page.locator("#history").screenshot(path=screenshots / "report-history.png")


def test_the_command_prints_a_pdf(monkeypatch: pytest.MonkeyPatch, screenshots: Path) -> None:
    """The page is printed with its figures drawn, on paper of A4."""
    monkeypatch.setenv("PYBENCH_CHROMIUM", os.environ.get("PYBENCH_CHROMIUM", "/usr/bin/chromium"))
    path = write_pdf(screenshots / "report-command.pdf", render(make_run(), make_samples()))
    pdf = path.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    assert re.search(rb"/MediaBox\s*\[\s*0 0 59[45]\.?\d* 84[12]", pdf)


def test_runs_side_by_side(open_page: OpenPage, tmp_path: Path, screenshots: Path) -> None:
    """A comparison opens in silence, draws its figures, fits a phone, and axe finds nothing serious.

    Verdicts that differ open to why; the others are folded away.
    """
    less = [each for each in audit_samples() if each.metric != "isolation.M4" or each.target != "vm"]
    runs = [
        (make_run(id="first"), [*make_samples(seed=0), *audit_samples()]),
        (make_run(id="second"), [*make_samples(seed=1), *less]),
    ]
    path = tmp_path / "comparison.html"
    path.write_text(render_comparison(runs), encoding="utf-8")
    opened = open_page(path.as_uri(), viewport={"width": 390, "height": 844})
    page = opened.page
    page.wait_for_selector("html[data-drawn]")
    assert opened.problems == []
    assert overflow(page) <= 0
    assert page.locator(".drawing .main-svg").count() >= 4
    violations = Axe().run(page).response["violations"]
    assert [each["id"] for each in violations if each["impact"] in {"serious", "critical"}] == []
    assert page.locator("#isolation table").nth(1).locator("tbody tr").count() == 1
    page.get_by_text("17 verdicts that are the same everywhere").click()
    assert page.locator("#isolation table").nth(2).locator("tbody tr").count() == 17
    page.screenshot(path=screenshots / "comparison-phone.png", full_page=True)


@pytest.mark.parametrize("width", [390, 1280])
def test_verdicts_open_to_their_evidence(open_report: Open, screenshots: Path, width: int) -> None:
    """A verdict opens by keyboard and shows what was seen; the matrix is accessible and fits a phone."""
    samples = [*make_samples(), *audit_samples()]
    opened = open_report(make_run(), samples, viewport={"width": width, "height": 900})
    page = opened.page
    cell = page.locator("#probe-M4 summary").nth(1)
    cell.focus()
    page.keyboard.press("Enter")
    assert "token-M4" in page.locator("#probe-M4 details[open]").inner_text()
    assert page.locator("#frontier .main-svg").count() >= 1
    assert overflow(page) <= 0
    assert opened.problems == []
    violations = Axe().run(page).response["violations"]
    assert [each["id"] for each in violations if each["impact"] in {"serious", "critical"}] == []
    page.locator("#isolation").screenshot(path=screenshots / f"report-isolation-{width}.png")


@pytest.mark.parametrize("width", [390, 1280])
def test_curves_and_matrices_are_drawn(open_report: Open, screenshots: Path, width: int) -> None:
    """Density, throughput and interference draw in silence, are accessible, and fit a phone."""
    opened = open_report(make_run(), load_samples(), viewport={"width": width, "height": 900})
    page = opened.page
    assert opened.problems == []
    assert overflow(page) <= 0
    for section in ("density", "throughput"):
        assert page.locator(f"#{section} .main-svg").count() >= 1
    assert page.locator("#interference .matrix").count() == 2
    assert "G/s" in page.inner_text("#throughput")
    assert "1/s" not in page.inner_text("main")
    page.fill("#samples-search", "throughput.cpu process")
    wait_until(page, "document.querySelector('#samples-status').textContent.includes('of 6 found')")
    assert {text.partition("\u00a0")[2] for text in column(page, 5)} <= {"M/s", "G/s"}
    violations = Axe().run(page).response["violations"]
    assert [each["id"] for each in violations if each["impact"] in {"serious", "critical"}] == []
    page.screenshot(path=screenshots / f"report-load-{width}.png", full_page=True)
