"""Down-sampling for pages: bounded, fair to every cell, with both tails whole."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_runs import failed_sample, make_run, make_samples, value_sample

from pybench.reports.html import render
from pybench.reports.thinning import MOST, thinned


def test_what_fits_is_left_alone() -> None:
    """No sample is left out of a page that can hold all, and their order stays."""
    samples = make_samples()
    assert thinned(samples).samples is samples


@settings(max_examples=25)
@example(seed=0, most=100, shares=[1, 12, 330])
@given(
    seed=st.integers(0, 1000),
    most=st.integers(100, 2000),
    shares=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
)
def test_tails_stay_whole_and_quantiles_stay_put(seed: int, most: int, shares: list[int]) -> None:
    """Every cell keeps its extremes; the median of what is kept is within the ranks that one step spans."""
    generator = np.random.default_rng(seed)
    samples = [
        value_sample(f"target-{cell}", float(value), order=order)
        for cell, number in enumerate(shares)
        for order, value in enumerate(generator.lognormal(0, 1, number))
    ]
    kept = thinned(samples, most)
    assert len(kept.samples) <= max(most, 0) + 3 * len(shares)
    assert kept.total == len(samples)
    for cell, number in enumerate(shares):
        whole = np.sort([each.value for each in samples if each.target == f"target-{cell}"])
        held = np.sort([each.value for each in kept.samples if each.target == f"target-{cell}"])
        assert (held[0], held[-1]) == (whole[0], whole[-1])
        rank = np.searchsorted(whole, np.median(held)) / number
        assert abs(rank - 0.5) <= 1 / len(held) + 1 / number


def test_failures_keep_their_share() -> None:
    """What does not count is thinned too, but a cell with failures still shows some."""
    samples = [value_sample("vm", 1.0 + each, order=each) for each in range(9000)]
    samples += [failed_sample("vm", "no", order=9000 + each) for each in range(1000)]
    kept = thinned(samples, 1000).samples
    assert sum(each.status == "failed" for each in kept) == pytest.approx(100, abs=2)


def test_the_page_says_what_it_leaves_out_and_counts_all() -> None:
    """Tables rest on all samples, the page holds some, and says where the others are."""
    few = make_samples({"process": 200}, warmups=0)
    samples = [replace(sample, order=sample.order + 1000 * again) for again in range(30) for sample in few]
    assert len(samples) > MOST
    page = render(make_run(), samples)
    assert "pybench export <bdi>20260731T101500Z-startup-7f3a</bdi>" in page
    assert re.search(r'aria-label="6000 samples of process, Start until ready"', page)
    packed = re.search(r'id="samples-data">([^<]+)<', page)
    assert packed is not None
    held = json.loads(gzip.decompress(base64.b64decode(packed[1])))["columns"]["order"]
    assert len(held) <= MOST + 100
