"""From `linux.resources` to limits: every honoured field arrives, and what asks for nothing is nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybench.runtime.container.cgroup.limits import DeviceLimits, HugePageLimit, Limits
from pybench.runtime.container.cgroup.resources import (
    change_of,
    limits_of,
    path_of,
    refuse_unavailable,
)
from pybench.runtime.container.cgroup.settings import missing, version1_settings, version2_settings
from pybench.runtime.container.specification.decode import decode
from pybench.runtime.container.specification.resources import Resources
from pybench.runtime.container.specification.support import HONOURED
from pybench.runtime.errors import HostError, InputError

NOTHING = Limits(swap=None)
DEVICE = {"major": 8, "minor": 16}
NO_FILES: frozenset[str] = frozenset()


def resources(document: dict[str, Any]) -> Resources:
    """The object as a bundle gives it."""
    return decode(Resources, json.loads(json.dumps(document)), "linux.resources", [])


EXAMPLES: dict[str, tuple[dict[str, Any], Limits]] = {
    "memory.limit": ({"memory": {"limit": 4096}}, Limits(memory=4096, swap=None)),
    "memory.swap": ({"memory": {"limit": 4096, "swap": 8192}}, Limits(memory=4096, swap=4096)),
    "memory.reservation": ({"memory": {"reservation": 5}}, Limits(swap=None, memory_reserved=5)),
    "cpu.shares": ({"cpu": {"shares": 512}}, Limits(swap=None, cpu_shares=512)),
    "cpu.quota": ({"cpu": {"quota": 50_000}}, Limits(swap=None, cpus=0.5, cpu_period=100_000)),
    "cpu.period": (
        {"cpu": {"quota": 5000, "period": 20_000}},
        Limits(swap=None, cpus=0.25, cpu_period=20_000),
    ),
    "cpu.burst": (
        {"cpu": {"quota": 50_000, "burst": 20_000}},
        Limits(swap=None, cpus=0.5, cpu_period=100_000, cpu_burst=20_000),
    ),
    "cpu.cpus": ({"cpu": {"cpus": "0-1"}}, Limits(swap=None, cpuset_cpus="0-1")),
    "cpu.mems": ({"cpu": {"mems": "0"}}, Limits(swap=None, cpuset_mems="0")),
    "cpu.idle": ({"cpu": {"idle": 1}}, Limits(swap=None, cpu_idle=True)),
    "pids.limit": ({"pids": {"limit": 7}}, Limits(swap=None, pids=7)),
    "unified": ({"unified": {"memory.high": "9"}}, Limits(swap=None, unified=(("memory.high", "9"),))),
    "blockIO.weight": ({"blockIO": {"weight": 1000}}, Limits(swap=None, io_weight=10_000)),
    "blockIO.weightDevice[]": (
        {"blockIO": {"weightDevice": [{**DEVICE, "weight": 10}]}},
        Limits(swap=None, io=(DeviceLimits("8:16", weight=1),)),
    ),
    "blockIO.throttleReadBpsDevice[]": (
        {"blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 1}]}},
        Limits(swap=None, io=(DeviceLimits("8:16", read_bytes=1),)),
    ),
    "blockIO.throttleWriteBpsDevice[]": (
        {"blockIO": {"throttleWriteBpsDevice": [{**DEVICE, "rate": 2}]}},
        Limits(swap=None, io=(DeviceLimits("8:16", write_bytes=2),)),
    ),
    "blockIO.throttleReadIOPSDevice[]": (
        {"blockIO": {"throttleReadIOPSDevice": [{**DEVICE, "rate": 3}]}},
        Limits(swap=None, io=(DeviceLimits("8:16", read_operations=3),)),
    ),
    "blockIO.throttleWriteIOPSDevice[]": (
        {"blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 4}]}},
        Limits(swap=None, io=(DeviceLimits("8:16", write_operations=4),)),
    ),
    "hugepageLimits[]": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        Limits(swap=None, hugetlb=(HugePageLimit("2MB", 0),)),
    ),
}


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_field_becomes_a_limit(field: str) -> None:
    """What a specification says is what the group is made with."""
    document, limits = EXAMPLES[field]
    assert limits_of(resources(document)) == limits


def test_no_honoured_field_is_forgotten() -> None:
    """The examples above are all fields that the specification calls honoured, but for rules and updates."""
    elsewhere = {"memory.checkBeforeUpdate", "devices[]"}
    honoured = {path.removeprefix("linux.resources.") for path in HONOURED if "linux.resources" in path}
    shortened = {path.partition("[]")[0] + "[]" if "[]" in path else path for path in honoured}
    assert shortened == EXAMPLES.keys() | elsewhere


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"memory": {"limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": False}},
        {"memory": {"limit": -1, "swap": -1, "reservation": -1, "swappiness": None}},
        {"cpu": {"shares": 0, "quota": 0, "period": 0, "burst": 0, "cpus": "", "mems": "", "idle": 0}},
        {"cpu": {"quota": -1, "realtimePeriod": 0}},
        {"pids": {"limit": 0}},
        {"pids": {"limit": -1}},
        {"blockIO": {"weight": 0, "weightDevice": [{**DEVICE, "weight": 0}]}},
        {"blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 0}]}},
        {"hugepageLimits": [], "unified": {}},
    ],
)
def test_what_asks_for_nothing_is_no_limit(document: dict[str, Any]) -> None:
    """Zeros, -1 and null, which engines send for what their user left out, limit nothing."""
    limits = limits_of(resources(document))
    assert limits == NOTHING
    assert version1_settings(limits, NO_FILES) == version2_settings(limits, NO_FILES) == ()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"cpu": {"quota": 999}}, "linux.resources.cpu.quota: 999 is below"),
        ({"cpu": {"period": 999}}, "linux.resources.cpu.period: 999"),
        ({"cpu": {"shares": 262_145}}, "linux.resources.cpu.shares: 262145"),
        ({"cpu": {"shares": 2, "idle": 1}}, "linux.resources.cpu.shares: 2 has no meaning"),
        ({"cpu": {"burst": 5}}, "linux.resources.cpu.burst"),
        ({"memory": {"swap": 5}}, "linux.resources.memory.swap"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 5}]}},
            "linux.resources.blockIO: -1:0",
        ),
        ({"unified": {"../memory.max": "5"}}, "linux.resources.unified['../memory.max']"),
    ],
)
def test_what_no_kernel_accepts_is_refused_by_its_path(document: dict[str, Any], said: str) -> None:
    """The error starts with the key of the specification."""
    with pytest.raises(InputError) as caught:
        limits_of(resources(document))
    assert caught.value.message.startswith(said)


def test_every_limit_leads_back_to_its_path() -> None:
    """What this host cannot hold is refused by the key of the specification, in either version."""
    for document, limits in EXAMPLES.values():
        (key,) = document
        for settings in (version1_settings(limits, NO_FILES), version2_settings(limits, NO_FILES)):
            names = missing(settings, NO_FILES)
            assert names
            assert all(path_of(name).startswith(f"linux.resources.{key}") for name in names)
            with pytest.raises(HostError, match=f"^linux.resources.{key}"):
                refuse_unavailable(names, "/sys/fs/cgroup/some")


def test_files_of_version_2_are_refused_in_version_1() -> None:
    """Also where version 1 has a file of that name."""
    limits = Limits(unified=(("pids.max", "5"), ("io.max", "8:0 rbps=1\n8:16 rbps=2")))
    assert missing(version1_settings(limits, frozenset({"pids.max"})), frozenset({"pids.max"})) == (
        *("unified pids.max", "unified io.max"),
    )
    lines = [(setting.file, setting.value) for setting in version2_settings(limits, NO_FILES)]
    assert lines == [("pids.max", "5"), ("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]


def test_a_change_tells_lifting_from_leaving() -> None:
    """-1 lifts a limit and 0 or nothing leaves it; an unlimited memory has unlimited swap."""
    change = change_of(
        resources(
            {
                "memory": {"limit": -1, "reservation": 0, "checkBeforeUpdate": True},
                "cpu": {"quota": 0, "burst": 0, "idle": 0},
                "pids": {"limit": -1},
                "blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 0}]},
            }
        )
    )
    assert change.lifted == {"memory", "swap", "cpu burst", "cpu idle", "pids"}
    assert change.lifted_rates == (("8:16", "write_operations"),)
    assert change.below_usage_refused
    assert change.limits == NOTHING


@pytest.mark.parametrize(
    ("cpu", "quota_and_period"),
    [
        ({"quota": 20_000}, (20_000, 50_000)),
        ({"period": 100_000}, (30_000, 100_000)),
        ({"quota": 20_000, "period": 40_000}, (20_000, 40_000)),
        ({"shares": 5}, None),
        ({"quota": -1, "period": 40_000}, None),
    ],
)
def test_a_quota_keeps_its_period(cpu: dict[str, Any], quota_and_period: tuple[int, int] | None) -> None:
    """Changing one of the two leaves the other as it is in the group: here 30 of 50 ms."""
    limits = change_of(resources({"cpu": cpu})).complete(30_000, 50_000)
    assert limits.quota_and_period() == quota_and_period
