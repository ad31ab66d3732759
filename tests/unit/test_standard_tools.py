"""What fio, sysbench and iperf3 print, and the one figure that is taken from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.errors import InstanceError
from pybench.harness.measure.standard_tools import LONGEST_OUTPUT, TOOLS, Place, Tool

CPU = b"CPU speed:\n    events per second: 40681.60\n\nGeneral statistics:\n"
MEMORY = b"Total operations: 316 (  315.42 per second)\n\n20224.00 MiB transferred (20186.94 MiB/sec)\n\n"
FIO = {
    "fio version": "fio-3.33",
    "jobs": [
        {
            "error": 0,
            "read": {"bw_bytes": 57294897, "iops": 13988.011988, "runtime": 1001},
            "write": {"bw_bytes": 4096, "iops": 1.5},
        }
    ],
}
IPERF = {"start": {}, "end": {"sum_received": {"seconds": 1.0, "bits_per_second": 20081588866.590874}}}


def tool(name: str) -> Tool:
    """The one of this name."""
    return next(each for each in TOOLS if each.name == name)


@pytest.mark.parametrize(
    ("name", "output", "value", "unit"),
    [
        ("sysbench.cpu", CPU, 40681.60, "1/s"),
        ("sysbench.memory.read", MEMORY, 20186.94 * 2**20, "B/s"),
        ("fio.sequential.read", json.dumps(FIO).encode(), 57294897, "B/s"),
        ("fio.random.read", json.dumps(FIO).encode(), 13988.011988, "1/s"),
        ("fio.fsync", json.dumps(FIO).encode(), 1.5, "1/s"),
        ("iperf3.send", json.dumps(IPERF).encode(), 20081588866.590874 / 8, "B/s"),
    ],
)
def test_the_figure_is_taken_in_its_unit(name: str, output: bytes, value: float, unit: str) -> None:
    """MiB become bytes, and bits a second bytes a second."""
    found = tool(name)
    assert found.parse(output) == pytest.approx(value)
    assert found.unit == unit


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("sysbench.cpu", b""),
        ("sysbench.cpu", CPU.replace(b"40681.60", b"0.00")),
        ("sysbench.cpu", CPU.replace(b"40681.60", b"nan")),
        ("sysbench.cpu", CPU + b" " * LONGEST_OUTPUT),
        ("fio.random.read", json.dumps({"jobs": []}).encode()),
        ("fio.random.read", json.dumps(FIO).replace('"error": 0', '"error": 5').encode()),
        ("fio.random.read", json.dumps(FIO).replace("13988.011988", "-1").encode()),
        ("fio.random.read", json.dumps(FIO).replace("13988.011988", "NaN").encode()),
        ("iperf3.send", b'{"error": "unable to connect to server"}'),
        ("iperf3.send", json.dumps(IPERF).replace("20081588866.590874", "1e400").encode()),
    ],
)
def test_what_is_no_result_is_refused(name: str, output: bytes) -> None:
    """Errors, nonsense, zero, infinity and floods are never a figure."""
    with pytest.raises(InstanceError, match=f"did not print the result of {name}"):
        tool(name).parse(output)


@given(st.sampled_from(TOOLS), st.binary(max_size=200))
def test_arbitrary_output_is_refused(found: Tool, output: bytes) -> None:
    """Whatever a guest prints instead ends in the one error there is for it."""
    with pytest.raises(InstanceError):
        found.parse(output)


def test_every_tool_is_told_where_and_how_long() -> None:
    """Time, place and server are in the arguments of those that need them."""
    place = Place(3, 1 << 20, "/mnt", ("10.0.0.2", 99))
    assert len({each.name for each in TOOLS}) == len(TOOLS)
    for each in TOOLS:
        arguments = " ".join(each.arguments(place))
        assert "3" in arguments
        assert ("/mnt" in arguments) == each.needs_disk
        assert ("10.0.0.2 --port 99" in arguments) == each.needs_server
