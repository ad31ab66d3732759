"""Limits: what is refused, how the scales of both versions correspond, and which files they become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.runtime.container.cgroup.limits import (
    FEWEST_SHARES,
    MOST_SHARES,
    DeviceLimits,
    HugePageLimit,
    Limits,
    blkio_of_weight,
    shares_of_weight,
    weight_of_blkio,
    weight_of_shares,
)
from pybench.runtime.container.cgroup.readings import read_blkio, read_io_stat, read_stall
from pybench.runtime.container.cgroup.settings import missing, version1_settings, version2_settings
from pybench.runtime.errors import InputError

NO_FILES: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limits(memory=0), "memory must be at least 1, not 0"),
        (lambda: Limits(pids=0), "pids must be at least 1"),
        (lambda: Limits(cpus=0.0), "cpus must be at least 0.001"),
        (lambda: Limits(cpus=float("nan")), "cpus must be at least"),
        (lambda: Limits(cpus=0.005, cpu_period=100_000), "cpus must be at least 0.01"),
        (lambda: Limits(cpu_period=999), "cpu period must be between 1000 and 1000000"),
        (lambda: Limits(cpu_weight=10_001), "cpu weight must be between 1 and 10000"),
        (lambda: Limits(cpu_shares=1), "cpu shares must be between 2 and 262144"),
        (lambda: Limits(cpu_weight=1, cpu_shares=2), "twice"),
        (lambda: Limits(cpuset_cpus="0-"), "cpuset cpus: '0-'"),
        (lambda: Limits(cpuset_mems="0\n1"), "cpuset mems"),
        (lambda: DeviceLimits("sda"), "io device: 'sda'"),
        (lambda: DeviceLimits("8:0", read_bytes=0), "io rate of 8:0"),
        (lambda: HugePageLimit("../2MB", 1), "hugetlb page size"),
    ],
)
def test_what_no_kernel_accepts_is_refused(make: Callable[[], object], said: str) -> None:
    """A limit out of range, or text that would be no plain value, is refused by name."""
    with pytest.raises(InputError) as caught:
        make()
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        (Limits(cpus=0.5), (50_000, 100_000)),
        (Limits(cpus=0.4, cpu_period=50_000), (20_000, 50_000)),
        (Limits(cpus=0.005), (5_000, 1_000_000)),
        (Limits(cpus=0.001), (1_000, 1_000_000)),
        (Limits(), None),
    ],
)
def test_a_share_of_a_cpu_is_a_quota(limits: Limits, quota: tuple[int, int] | None) -> None:
    """The quota is exact; where it would be too short for the kernel, the period is longer."""
    assert limits.quota_and_period() == quota


@given(st.integers(1_000, 10**9), st.integers(1_000, 1_000_000))
def test_a_quota_survives_being_a_share(quota: int, period: int) -> None:
    """Quota and period of another tool come out as they went in."""
    assert Limits(cpus=quota / period, cpu_period=period).quota_and_period() == (quota, period)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (2**18, 10_000), (512, 59), (2048, 174)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    """The smallest, the default and the largest correspond, and what lies between as in runc and crun."""
    assert weight_of_shares(shares) == weight


@given(st.integers(1, 10_000))
def test_weights_become_shares(weight: int) -> None:
    """A weight is a valid number of shares, and within one of itself when it comes back."""
    shares = shares_of_weight(weight)
    assert FEWEST_SHARES <= shares <= MOST_SHARES
    assert weight_of_shares(shares) == pytest.approx(weight, rel=0.15, abs=1)


def test_the_default_weight_is_the_default_share() -> None:
    """A group that asks for the default gets the default of either version."""
    assert shares_of_weight(100) == 1024


@given(st.integers(10, 1000))
def test_block_weights_come_back(weight: int) -> None:
    """The conversion of OCI's block weight loses nothing."""
    assert blkio_of_weight(weight_of_blkio(weight)) == weight


def test_both_versions_hold_the_same_words() -> None:
    """Whatever is asked for has a name in either version, and each name is missing where no file is."""
    limits = Limits(
        memory=2**26,
        cpus=1.0,
        pids=5,
        memory_high=2**25,
        memory_reserved=2**24,
        cpu_weight=100,
        cpuset_cpus="0",
        cpuset_mems="0",
        io=(DeviceLimits("8:0", read_bytes=1, weight=5),),
        io_weight=100,
        hugetlb=(HugePageLimit("2MB", 0),),
    )
    of_first = missing(version1_settings(limits, NO_FILES), NO_FILES)
    assert of_first == missing(version2_settings(limits, NO_FILES), NO_FILES)
    assert of_first == (
        *("memory", "cpu", "pids", "memory high", "memory reservation", "cpu weight"),
        *("cpuset cpus", "cpuset mems", "io", "io weight", "hugetlb 2MB"),
    )


def test_the_scheduler_that_is_there_gets_the_weight() -> None:
    """BFQ's file has BFQ's scale."""
    (setting,) = version2_settings(Limits(io_weight=10_000), frozenset({"io.bfq.weight"}))
    assert (setting.file, setting.value) == ("io.bfq.weight", "default 1000")
    (setting,) = version1_settings(Limits(io_weight=1), frozenset({"blkio.bfq.weight"}))
    assert (setting.file, setting.value) == ("blkio.bfq.weight", "10")


def test_kernel_files_are_read(tmp_path: Path) -> None:
    """Counters of either version and pressure are understood; what is not there is None."""
    file = tmp_path / "file"
    file.write_text("254:0 Read 10\n254:0 Write 20\n8:0 Read 5\nTotal 35\n", encoding="ascii")
    assert read_blkio(file) == (15, 20)
    file.write_text(
        "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\n8:0 rbytes=5 wbytes=0\n", encoding="ascii"
    )
    assert read_io_stat(file) == (15, 20)
    file.write_text(
        "some avg10=50.00 avg60=10.00 avg300=1.00 total=2000000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        encoding="ascii",
    )
    stall = read_stall(file)
    assert stall is not None
    assert (stall.some.last_10, stall.some.last_300, stall.some.total_seconds) == (0.5, 0.01, 2.0)
    assert stall.full is not None
    nothing = tmp_path / "nothing"
    assert (read_blkio(nothing), read_io_stat(nothing), read_stall(nothing)) == (
        (None, None),
        (None, None),
        None,
    )
