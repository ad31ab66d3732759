"""Which subnet a bridge gets, and which addresses the containers on it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.runtime.container.network.addresses import DEFAULT_RANGE, choose_subnet, link_address
from pybench.runtime.errors import HostError


def networks() -> st.SearchStrategy[IPv4Network]:
    """Any network, most of them in or around the range that bridges take theirs from."""
    return st.builds(
        lambda low, length: IPv4Network((int(DEFAULT_RANGE[0]) + low, length), strict=False),
        st.integers(-(2**16), 2**17),
        st.integers(14, 32),
    )


@given(st.lists(networks(), max_size=8))
def test_a_chosen_subnet_overlaps_nothing(taken: list[IPv4Network]) -> None:
    """Whatever the host uses, the subnet is outside of it, or the refusal is justified."""
    try:
        chosen = choose_subnet(taken).network
    except HostError:
        assert all(
            any(candidate.overlaps(other) for other in taken)
            for candidate in DEFAULT_RANGE.subnets(new_prefix=22)
        )
    else:
        assert chosen.subnet_of(DEFAULT_RANGE)
        assert not any(chosen.overlaps(other) for other in taken)


def test_no_free_subnet_is_refused_with_advice() -> None:
    """A range that is in use as a whole gives an error that says who to look for."""
    with pytest.raises(HostError, match=r"no subnet of 10\.213\.0\.0/16 is free") as caught:
        choose_subnet([IPv4Network("10.0.0.0/8")])
    assert "ip route" in caught.value.hint


def test_a_small_range_is_one_subnet() -> None:
    """A range smaller than a usual subnet is taken whole."""
    small = IPv4Network("192.168.7.0/28")
    subnet = choose_subnet([], small)
    assert subnet.network == small
    assert str(subnet.gateway) == "192.168.7.1/28"
    assert [str(subnet.interface(slot).ip) for slot in (subnet.slots[0], subnet.slots[-1])] == [
        "192.168.7.2",
        "192.168.7.14",
    ]


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_link_addresses_tell_containers_apart(one: IPv4Address, other: IPv4Address) -> None:
    """Different IP addresses have different MAC addresses, all of them unicast and locally administered."""
    assert (link_address(one) == link_address(other)) == (one == other)
    assert int(link_address(one)[:2], 16) & 0b11 == 0b10
