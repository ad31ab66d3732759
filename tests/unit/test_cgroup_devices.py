"""Rules about devices: both versions decide as the rules say, or refuse to."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED, version1_lines, version2_program
from pybench.runtime.container.specification.resources import DeviceRule
from pybench.runtime.errors import InputError

DENY_ALL = DeviceRule(allow=False)
BITS = {"m": 1, "r": 2, "w": 4}
NUMBERS = (None, -1, 0, 1, 2)
Access = tuple[str, int, int, str]

rules = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        type=st.sampled_from(("a", "b", "c")),
        major=st.sampled_from(NUMBERS),
        minor=st.sampled_from(NUMBERS),
        access=st.sampled_from(("r", "w", "m", "rw", "rwm")),
    ),
    max_size=6,
)
accesses = st.tuples(
    *(st.sampled_from("bc"), st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from(("r", "w", "m", "rw")),
)


def said(rules: Sequence[DeviceRule], access: Access) -> bool:
    """What the rules mean: each letter is decided by the last rule that matches."""
    kind, major, minor, letters = access

    def decided(letter: str) -> bool:
        for rule in reversed(rules):
            if (
                rule.type in {"a", kind}
                and rule.major in {None, -1, major}
                and rule.minor in {None, -1, minor}
                and letter in rule.access
            ):
                return rule.allow
        return False

    return all(decided(letter) for letter in letters)


def version1_says(lines: Sequence[tuple[str, str]], access: Access) -> bool:
    """What the kernel makes of the lines (security/device_cgroup.c, match_exception and its partial form)."""
    kind, major, minor, letters = access
    (default, everything), *exceptions = lines
    assert everything == "a"
    allowed = default == "devices.allow"
    for file, line in exceptions:
        assert (file == "devices.allow") is not allowed
        type_there, number, access_there = line.split()
        major_there, minor_there = number.split(":")
        if type_there != kind or major_there not in {"*", str(major)} or minor_there not in {"*", str(minor)}:
            continue
        if allowed and set(letters) & set(access_there):
            return False
        if not allowed and set(letters) <= set(access_there):
            return True
    return allowed


def version2_says(program: bytes, access: Access) -> bool:
    """Run the program on struct bpf_cgroup_dev_ctx, with the instructions that it may be made of."""
    kind, major, minor, letters = access
    access_type = sum(BITS[letter] for letter in letters) << 16 | {"b": 1, "c": 2}[kind]
    context = struct.pack("=3I", access_type, major, minor)
    instructions = list(struct.iter_unpack("=BBhI", program))
    registers = [0] * 11
    position = 0
    while True:
        code, both, offset, value = instructions[position]
        target, source = both & 15, both >> 4
        position += 1
        match code:
            case 0x61:
                (registers[target],) = struct.unpack_from("=I", context, registers[source] + offset)
            case 0xB7 | 0xBF:
                registers[target] = value if code == 0xB7 else registers[source]
            case 0x57:
                registers[target] &= value
            case 0x77:
                registers[target] >>= value
            case 0x05:
                position += offset
            case 0x56:
                position += offset if registers[target] & 0xFFFFFFFF != value else 0
            case 0x45:
                position += offset if registers[target] & value else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"unexpected instruction {code:#x}")


@given(rules, accesses)
def test_the_program_decides_as_the_rules_say(rules: list[DeviceRule], access: Access) -> None:
    """Whatever the rules and their order, the last one that matches decides."""
    assert version2_says(version2_program(rules), access) == said(rules, access)


@given(rules, accesses)
def test_version_1_decides_as_the_rules_say(rules: list[DeviceRule], access: Access) -> None:
    """Or the rule that it cannot express is refused by its path."""
    refusal = ""
    try:
        lines = version1_lines(rules)
    except InputError as error:
        refusal = error.message
    if refusal:
        assert refusal.startswith("linux.resources.devices[")
    else:
        assert version1_says(lines, access) == said(rules, access)


def test_the_rules_of_an_engine_are_a_list_of_what_is_allowed() -> None:
    """Deny all, then allow one by one, is what Docker and Podman send."""
    assert version1_lines(
        (DENY_ALL, DeviceRule(allow=True, type="c", major=10, minor=229, access="rw"), *ALWAYS_ALLOWED[:3])
    ) == (
        ("devices.deny", "a"),
        ("devices.allow", "c 10:229 rwm"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "b *:* m"),
        ("devices.allow", "c 1:3 rwm"),
    )


def test_a_hole_in_an_earlier_rule_is_refused_by_version_1() -> None:
    """It would be written without an error and have no effect."""
    with pytest.raises(InputError) as caught:
        version1_lines(
            (
                DENY_ALL,
                DeviceRule(allow=True, type="c", major=1),
                DeviceRule(allow=False, type="c", major=1, minor=1),
            )
        )
    assert caught.value.message.startswith("linux.resources.devices[2]: version 1")


@pytest.mark.parametrize(
    ("major", "minor"), [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 4)]
)
def test_what_every_container_has_is_always_allowed(major: int, minor: int) -> None:
    """Even if the specification denies all; nodes of other devices may be made, but not used."""
    program = version2_program((DENY_ALL, *ALWAYS_ALLOWED))
    assert version2_says(program, ("c", major, minor, "rw"))
    assert version2_says(program, ("b", 8, 0, "m"))
    assert not version2_says(program, ("b", 8, 0, "r"))
    assert not version2_says(program, ("c", 1, 1, "r"))
