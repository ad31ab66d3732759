"""The HTML file: complete in itself, written at once or not at all, with data that cannot break out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import time
from pathlib import Path

import pytest
from report_runs import HOSTILE, failed_sample, make_run, make_samples, value_sample

from pybench.harness.errors import InputError
from pybench.reports.colours import FIXED, inks
from pybench.reports.embedding import embedded_samples, script_safe_json
from pybench.reports.html import render, write_report


@pytest.fixture(scope="module")
def page() -> str:
    """The report of a whole run."""
    return render(make_run(), make_samples())


def test_is_one_file_of_bounded_size(page: str) -> None:
    """The page embeds all it needs, refers to nothing outside, and stays below 6 MB."""
    assert len(page.encode()) < 6_000_000
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"https?:|src=|@import|url\(", without_scripts)


def test_policy_admits_exactly_its_own_scripts(page: str) -> None:
    """The content security policy lists the hash of every script in the page and forbids all else."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    admitted = set(re.findall(r"sha256-([A-Za-z0-9+/=]+)", policy[1].replace("&#43;", "+")))
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert hashes == admitted
    assert "default-src &#39;none&#39;" in policy[1]


def test_ten_thousand_samples_are_quick_and_small() -> None:
    """A report of 10,000 samples is built within seconds and stays below 6 MB."""
    samples = make_samples({"process": 600, "container": 500, "vm": 300})
    assert len(samples) > 9500
    # The processor's time: what else the host does is not the report's fault.
    begin = time.process_time()
    page = render(make_run(), samples)
    assert time.process_time() - begin < 10
    assert len(page.encode()) < 6_000_000


def test_file_appears_whole(tmp_path: Path) -> None:
    """The file is written beside and renamed; nothing else stays in the folder."""
    path = write_report(tmp_path / "report.html", make_run(), make_samples({"process": 3}))
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    """A folder that does not exist gives one line that names the file and a hint."""
    with pytest.raises(InputError, match=r"cannot write the report .*: No such file or directory") as caught:
        write_report(tmp_path / "missing" / "report.html", make_run(), [])
    assert "choose a folder" in caught.value.hint


def test_failed_write_keeps_the_old_report(tmp_path: Path) -> None:
    """When the new file cannot take the old one's place, the old one stays and no rest is left."""
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(tmp_path / "report.html", make_run(), [])
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_embedded_json_cannot_end_its_script() -> None:
    """No angle bracket, ampersand or line separator is left, and the data come back unchanged."""
    text = script_safe_json({"text": HOSTILE})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"text": HOSTILE}


def test_embedded_samples_are_complete() -> None:
    """Every sample is embedded with its value, status and reason; texts are kept once."""
    samples = [
        *make_samples({"vm": 2}),
        failed_sample("vm", "broken </script>"),
        value_sample("x", float("inf")),
    ]
    data = json.loads(gzip.decompress(base64.b64decode(embedded_samples(samples))))
    texts, columns = data["texts"], data["columns"]
    assert len(set(texts)) == len(texts)
    assert {len(column) for column in columns.values()} == {len(samples)}
    assert columns["value"][0] == pytest.approx(samples[0].value)
    assert texts[columns["status"][0]] == "warm-up"
    assert texts[columns["status"][-2]] == "failed"
    assert "broken </script>" in texts[columns["remarks"][-2]]
    assert columns["value"][-1] is None


def test_hostile_text_is_escaped_everywhere() -> None:
    """Text of a guest or a user never becomes an element, a template or an attribute."""
    run = make_run("failed", id=HOSTILE, scenario=HOSTILE, command=HOSTILE, definition=HOSTILE)
    samples = [failed_sample(HOSTILE, HOSTILE, workload=HOSTILE), value_sample(HOSTILE, 1.0, metric=HOSTILE)]
    page = render(run, samples)
    assert "<img" not in page
    assert "<script>document.title" not in page
    assert "\u202e" not in page
    assert "{{ 7 * 7 }}" in page


def test_targets_keep_their_colour() -> None:
    """A known target has one colour in whatever company, unknown ones take hues that are not in use."""
    assert inks(["vm", "process"])["vm"] == inks(["vm", "zzz", "aaa"])["vm"] == FIXED["vm"]
    many = inks(["process", "floor", "container", "vm", "one", "two", "three"])
    assert len({ink.light for ink in many.values()}) == 7
    assert len(inks([f"target-{each}" for each in range(40)])) == 40


def test_ids_are_unique(page: str) -> None:
    """No id is used twice, so that every link and label has one goal."""
    ids = re.findall(r'\bid="([^"]+)"', re.sub(r"<script.*?</script>", "", page, flags=re.S))
    assert len(set(ids)) == len(ids)
