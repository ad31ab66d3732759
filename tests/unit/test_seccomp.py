"""Filters: what they say of a call is what the profile says of it, or the profile is refused by name."""

from __future__ import annotations

import errno
import operator
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
from bpf_machine import ALLOW, AUDIT_ARCH_I386, ERRNO, KILL_PROCESS, NOTIFY, TRACE, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybench.runtime.container.seccomp.compile import FILTER_FLAG_NEW_LISTENER, compile_filter, filter_flags
from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.seccomp.profiles import (
    ALWAYS,
    DEFAULT,
    DENIED,
    NOT_WHEN_STRICT,
    PROFILES,
    STRICT,
    with_listener,
)
from pybench.runtime.container.specification.decode import decode
from pybench.runtime.container.specification.seccomp import SeccompProfile
from pybench.runtime.container.specification.seccomp_rules import check_profile
from pybench.runtime.errors import InputError

X32 = 0x40000000
NEWER_THAN_ANY = 5000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with an empty cache of its own."""
    monkeypatch.setenv("PYBENCH_CACHE", str(tmp_path))


def profile_of(document: dict[str, Any]) -> SeccompProfile:
    """The profile that a `linux.seccomp` object describes."""
    return decode(SeccompProfile, document, "linux.seccomp", [])


def refusal(document: dict[str, Any]) -> str:
    """How an object is refused."""
    with pytest.raises(InputError) as caught:
        compile_filter(profile_of(document))
    return caught.value.message


def number_of(name: str) -> int:
    """The number of a call on this machine."""
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))


def allowing(*names: str, **more: Any) -> dict[str, Any]:
    """An object that allows some calls and answers EPERM to all others."""
    rules = [{"names": list(names), "action": "SCMP_ACT_ALLOW"}]
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules, **more}


def test_every_call_is_listed_once() -> None:
    """A call is allowed always, or has one reason not to be, and no list names it twice."""
    listed = [*ALWAYS, *" ".join([*NOT_WHEN_STRICT.values(), *DENIED.values()]).split()]
    assert len(listed) == len(set(listed))
    for profile in (DEFAULT, STRICT):
        conditional = {name for name, clauses in profile.calls.items() if len(clauses) > 1}
        assert not conditional & set(listed)


@pytest.mark.parametrize("profile", [DEFAULT, STRICT])
def test_lists_of_our_profiles_are_obeyed(profile: Policy) -> None:
    """What is listed as allowed is, what is listed as denied answers EPERM."""
    program = compile_filter(profile)
    for name in ALWAYS:
        if number_of(name) >= 0:
            assert verdict(program, number_of(name)) == ALLOW, name
    denied = " ".join(DENIED.values()).split()
    if profile is STRICT:
        denied += " ".join(NOT_WHEN_STRICT.values()).split()
    for name in denied:
        if number_of(name) >= 0:
            assert verdict(program, number_of(name)) == ERRNO | errno.EPERM, name


@pytest.mark.parametrize("profile", [DEFAULT, STRICT])
def test_foreign_architectures_are_fatal_and_newer_calls_are_missing(profile: Policy) -> None:
    """Calls through i386 and x32 end the process; numbers beyond the known ones answer ENOSYS."""
    program = compile_filter(profile)
    assert verdict(program, 20, architecture=AUDIT_ARCH_I386) == KILL_PROCESS
    assert verdict(program, X32 | number_of("read")) == KILL_PROCESS
    assert verdict(program, X32 | NEWER_THAN_ANY) == KILL_PROCESS
    assert verdict(program, NEWER_THAN_ANY) == ERRNO | errno.ENOSYS
    assert verdict(program, number_of("clone3")) == ERRNO | errno.ENOSYS


def test_strict_allows_nothing_that_default_refuses() -> None:
    """The stricter profile is a part of the other."""
    default, strict = compile_filter(DEFAULT), compile_filter(STRICT)
    for number in range(500):
        for arguments in ((), (1,), (2, 1), (10, 0x80002, 17), (16, 3), (0x20000,), (0, 0o10644, 0o10644)):
            if verdict(strict, number, arguments) == ALLOW:
                assert verdict(default, number, arguments) == ALLOW, (number, arguments)


def test_privileged_has_no_filter() -> None:
    """The profile `privileged` exists and filters nothing."""
    assert set(PROFILES) == {"default", "strict", "privileged"}
    assert PROFILES["privileged"] is None


@pytest.mark.parametrize("profile", [DEFAULT, STRICT])
def test_our_filters_are_short(profile: Policy) -> None:
    """Installing a filter is within the start of a container, and costs in proportion to its length."""
    assert len(compile_filter(profile)) // 8 < 300


def test_upper_half_of_a_register_does_not_evade_a_comparison() -> None:
    """TIOCSTI is refused also when bits are set that the kernel ignores."""
    program = compile_filter(DEFAULT)
    ioctl = number_of("ioctl")
    assert verdict(program, ioctl, (0, 0x5412)) == ERRNO | errno.EPERM
    assert verdict(program, ioctl, (0, 1 << 32 | 0x5412)) == ERRNO | errno.EPERM
    assert verdict(program, ioctl, (0, 1 << 63 | 0x541C)) == ERRNO | errno.EPERM
    assert verdict(program, ioctl, (0, 0x5413)) == ALLOW


def test_calls_a_listener_answers() -> None:
    """A call can be handed to a listener; then the filter is installed with the flag that makes one."""
    profile = with_listener(DEFAULT, frozenset({"sysinfo"}))
    program = compile_filter(profile)
    assert verdict(program, number_of("sysinfo")) == NOTIFY
    assert verdict(program, number_of("uname")) == ALLOW
    assert filter_flags(profile) == FILTER_FLAG_NEW_LISTENER
    assert filter_flags(DEFAULT) == 0


def test_flags_of_the_profile_are_those_of_the_system_call() -> None:
    """Each name stands for its number of seccomp(2); a listener with TSYNC needs a fourth flag."""
    names = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    document = allowing("read", flags=names, listenerPath="/run/listener")
    assert filter_flags(profile_of(document)) == 0b111
    document["syscalls"].append({"names": ["mount"], "action": "SCMP_ACT_NOTIFY"})
    assert filter_flags(profile_of(document)) == 0b11111


def docker_like() -> dict[str, Any]:
    """The shape of the object that dockerd puts into config.json for a container without privileges."""

    def argument(index: int, value: int, op: str, second: int = 0) -> dict[str, Any]:
        return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{op}"}

    def allow(names: list[str], *args: dict[str, Any]) -> dict[str, Any]:
        return {"names": names, "action": "SCMP_ACT_ALLOW", **({"args": list(args)} if args else {})}

    plain = ["read", "write", "chown32", "socketcall", "_llseek", "futex_time64", "fchmodat2", "waitpid"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            allow([*plain, "a_call_of_the_future", "ptrace"]),
            allow(["process_vm_readv", "ptrace"]),
            allow(["socket"], argument(0, 40, "NE")),
            *(allow(["personality"], argument(0, value, "EQ")) for value in (0, 8, 0x20000)),
            allow(["clone"], argument(0, 0x7E020000, "MASKED_EQ")),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }


def test_what_docker_writes_is_obeyed() -> None:
    """Three architectures, unknown names, repeated names and conditions all mean what they say."""
    program = compile_filter(profile_of(docker_like()))
    assert verdict(program, number_of("read")) == ALLOW
    assert verdict(program, number_of("ptrace")) == ALLOW
    assert verdict(program, number_of("socket"), (2,)) == ALLOW
    assert verdict(program, number_of("socket"), (40,)) == ERRNO | errno.EPERM
    assert verdict(program, number_of("personality"), (8,)) == ALLOW
    assert verdict(program, number_of("personality"), (0x40000,)) == ERRNO | errno.EPERM
    assert verdict(program, number_of("clone"), (17,)) == ALLOW
    assert verdict(program, number_of("clone"), (0x10000000,)) == ERRNO | errno.EPERM
    assert verdict(program, number_of("clone3")) == ERRNO | errno.ENOSYS
    assert verdict(program, number_of("mount")) == ERRNO | errno.EPERM
    assert verdict(program, X32 | number_of("read")) == ALLOW
    assert verdict(program, X32 | NEWER_THAN_ANY) == ERRNO | errno.ENOSYS
    assert verdict(program, NEWER_THAN_ANY) == ERRNO | errno.ENOSYS
    assert verdict(program, 102, (1,), architecture=AUDIT_ARCH_I386) == ALLOW  # socketcall
    assert verdict(program, 21, (), architecture=AUDIT_ARCH_I386) == ERRNO | errno.EPERM  # mount
    assert verdict(program, NEWER_THAN_ANY, (), architecture=AUDIT_ARCH_I386) == ERRNO | errno.ENOSYS
    assert verdict(program, 0, (), architecture=0xC00000B7) == KILL_PROCESS  # aarch64


def test_of_two_rules_for_every_call_the_stricter_holds() -> None:
    """Podman's own profile allows setns and refuses it; it is refused, and a warning says so."""
    document = allowing("setns", "read")
    refused = {"names": ["setns", "acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ESTALE}
    for rules_ in ([*document["syscalls"], refused], [refused, *document["syscalls"]]):
        profile = profile_of({**document, "syscalls": rules_})
        program = compile_filter(profile)
        assert verdict(program, number_of("setns")) == ERRNO | errno.ESTALE
        assert verdict(program, number_of("read")) == ALLOW
        (warning,) = check_profile(profile)
        place = rules_.index(document["syscalls"][0])
        assert warning.startswith(f"linux.seccomp.syscalls[{place}].names: 'setns' is decided by")


def test_of_rules_that_overlap_the_strictest_that_applies_holds() -> None:
    """A refusal under a condition is an exception from what is allowed, in whichever order they stand."""
    allowed = {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"}
    refused = {"names": ["ioctl"], "action": "SCMP_ACT_KILL", "args": [ARGUMENT]}
    for rules_ in ([allowed, refused], [refused, allowed]):
        profile = profile_of({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules_})
        program = compile_filter(profile)
        assert verdict(program, number_of("ioctl"), (1,)) == 0
        assert verdict(program, number_of("ioctl"), (2,)) == ALLOW
        assert check_profile(profile) == ()


def test_conditions_that_libseccomp_merges_wrongly_are_kept_apart() -> None:
    """Of two rules whose conditions meet in one argument each still holds by itself."""

    def rule(*conditions: dict[str, Any]) -> dict[str, Any]:
        return {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": list(conditions)}

    always = {"index": 0, "value": 0, "valueTwo": 2**64 - 1, "op": "SCMP_CMP_MASKED_EQ"}
    program = compile_filter(
        profile_of(
            {
                "defaultAction": "SCMP_ACT_KILL",
                "syscalls": [
                    rule({"index": 1, "value": 2**32, "op": "SCMP_CMP_LT"}),
                    rule(always, {"index": 1, "value": 2**31, "op": "SCMP_CMP_LE"}),
                ],
            }
        )
    )
    assert verdict(program, number_of("ioctl"), (1, 2**32 - 1)) == ALLOW
    assert verdict(program, number_of("ioctl"), (1, 2**32)) == 0


def test_i386_reaches_a_socket_only_where_no_argument_matters() -> None:
    """Through socketcall the arguments cannot be seen, so it does the strictest that the rules may say."""
    i386 = {"architectures": ["SCMP_ARCH_X86"]}
    socketcall = 102
    free = compile_filter(profile_of(allowing("socket", **i386)))
    assert verdict(free, socketcall, (1,), architecture=AUDIT_ARCH_I386) == ALLOW
    assert verdict(free, socketcall, (2,), architecture=AUDIT_ARCH_I386) == ERRNO | errno.EPERM
    document = allowing("read", **i386)
    document["syscalls"].append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [ARGUMENT]})
    bound = compile_filter(profile_of(document))
    assert verdict(bound, socketcall, (1,), architecture=AUDIT_ARCH_I386) == ERRNO | errno.EPERM
    assert verdict(bound, 359, (1,), architecture=AUDIT_ARCH_I386) == ALLOW


ARGUMENT = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "linux.seccomp.defaultAction: 'SCMP_ACT_MAYBE'"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY"),
        ({"defaultErrnoRet": 4096}, "linux.seccomp.defaultErrnoRet: 4096"),
        ({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}, "linux.seccomp.defaultErrnoRet"),
        ({"flags": ["SECCOMP_FILTER_FLAG_NEW"]}, "linux.seccomp.flags[0]: 'SECCOMP_FILTER_FLAG_NEW'"),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "linux.seccomp.flags"),
        ({"architectures": ["SCMP_ARCH_Z80"]}, "linux.seccomp.architectures[0]: 'SCMP_ARCH_Z80'"),
        ({"architectures": ["SCMP_ARCH_S390X"]}, "linux.seccomp.architectures[0]: SCMP_ARCH_S390X"),
        ({"architectures": ["SCMP_ARCH_M68K"]}, "linux.seccomp.architectures[0]: SCMP_ARCH_M68K"),
        ({"listenerPath": "socket"}, "linux.seccomp.listenerPath: 'socket'"),
        ({"listenerMetadata": "x"}, "linux.seccomp.listenerMetadata"),
        ({"syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}, "linux.seccomp.syscalls[0].names"),
        ({"syscalls": [{"names": ["read"]}]}, "linux.seccomp.syscalls[0].action"),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]},
            "linux.seccomp.syscalls[0].errnoRet",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]},
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [ARGUMENT, ARGUMENT]}]},
            "linux.seccomp.syscalls[0].args: two conditions for argument 0",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{**ARGUMENT, "index": 6}]}]},
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{**ARGUMENT, "op": "="}]}]},
            "linux.seccomp.syscalls[0].args[0].op",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    """The message starts with the path of the key at fault."""
    assert refusal({"defaultAction": "SCMP_ACT_ERRNO", **change}).startswith(named)


def test_a_filter_longer_than_the_kernel_takes_is_refused() -> None:
    """More conditions than fit into 4096 instructions are refused before the kernel does so."""
    rules = [
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{**ARGUMENT, "value": value << 32 | value}]}
        for value in range(2000)
    ]
    assert "4096" in refusal({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})


def test_cache_is_used_and_not_believed_when_damaged_or_open_to_others(tmp_path: Path) -> None:
    """A filter is read back from disk, but not a damaged one nor one from a directory others can write."""
    program = compile_filter(DEFAULT)
    (file,) = (tmp_path / "seccomp").iterdir()
    kept = file.read_bytes()
    assert kept.endswith(program)
    assert file.stat().st_mode & 0o777 == 0o600

    before = file.stat().st_mtime_ns
    assert compile_filter(DEFAULT) == program
    assert file.stat().st_mtime_ns == before

    file.write_bytes(kept[:-8] + b"\x06\0\0\0\0\0\xff\x7f")
    assert compile_filter(DEFAULT) == program
    assert file.read_bytes() == kept

    (tmp_path / "seccomp").chmod(0o777)
    file.write_bytes(b"")
    assert compile_filter(DEFAULT) == program
    assert file.read_bytes() == b""


def test_an_unusable_cache_costs_time_only(tmp_path: Path) -> None:
    """A file where the directory should be does not stop anything."""
    (tmp_path / "seccomp").write_text("", encoding="utf-8")
    assert compile_filter(DEFAULT)
    assert [path.name for path in tmp_path.iterdir()] == ["seccomp"]


NAMES = [
    "read",
    "write",
    "ioctl",
    "clone",
    "socket",
    "openat",
    "mount",
    "statx",
    "no_such_call",
    "socketcall",
]
ACTIONS = [
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
]  # fmt: skip
COMPARISONS = {
    "NE": operator.ne, "LT": operator.lt, "LE": operator.le,
    "EQ": operator.eq, "GE": operator.ge, "GT": operator.gt,
}  # fmt: skip
VALUES = st.one_of(st.sampled_from([0, 1, 5, 2**31, 2**32 - 1, 2**32, 2**64 - 1]), st.integers(0, 2**64 - 1))


CONDITIONS = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2),
        "value": VALUES,
        "valueTwo": VALUES,
        "op": st.sampled_from([f"SCMP_CMP_{name}" for name in [*COMPARISONS, "MASKED_EQ"]]),
    }
)
MISTAKES: list[dict[str, Any]] = [
    {"defaultAction": "SCMP_ACT_NOTIFY"},
    {"defaultErrnoRet": 4096},
    {"flags": ["NONSENSE"]},
    {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]},
    {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6}]}]},
]


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """One entry of `syscalls`."""
    rule: dict[str, Any] = {
        "names": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
        "action": draw(st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", *ACTIONS])),
    }
    if rule["action"] in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} and draw(st.booleans()):
        rule["errnoRet"] = draw(st.sampled_from([0, 1, 38, 4095]))
    if draw(st.integers(0, 3)):
        rule["args"] = draw(st.lists(CONDITIONS, max_size=2, unique_by=lambda condition: condition["index"]))
    return rule


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    """A `linux.seccomp` object, one in ten with a mistake."""
    document: dict[str, Any] = {
        "defaultAction": draw(st.sampled_from(["SCMP_ACT_ERRNO", *ACTIONS[:-1]])),
        "syscalls": draw(st.lists(rules(), max_size=5)),
        "architectures": draw(
            st.lists(st.sampled_from(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]))
        ),
        "listenerPath": "/run/listener",
    }
    if document["defaultAction"] == "SCMP_ACT_ERRNO":
        document["defaultErrnoRet"] = draw(st.sampled_from([None, 1, 13, 38]))
    if draw(st.integers(0, 9)) == 9:
        document.update(draw(st.sampled_from(MISTAKES)))
    return document


def outcome(action: str, value: int | None) -> int:
    """The value that stands for an action."""
    value = errno.EPERM if value is None else value
    if action == "SCMP_ACT_ERRNO":
        return ERRNO | value
    if action == "SCMP_ACT_TRACE":
        return TRACE | value
    return int(getattr(pyseccomp, action.removeprefix("SCMP_ACT_")))


def holds(condition: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    """Whether a condition holds, as seccomp_rule_add(3) defines it."""
    argument, name = arguments[condition["index"]], condition["op"].removeprefix("SCMP_CMP_")
    if name == "MASKED_EQ":
        # The library compares with the part of the value that the mask leaves.
        return bool(argument & condition["value"] == condition["valueTwo"] & condition["value"])
    return bool(COMPARISONS[name](argument, condition["value"]))


def expected(document: dict[str, Any], name: str, arguments: tuple[int, ...]) -> int:
    """What an object says of a call, from its own words."""
    named = {name for rule in document["syscalls"] for name in rule["names"]}
    highest = max((number_of(name) for name in named), default=-1)
    default = outcome(document["defaultAction"], document.get("defaultErrnoRet"))
    if document["defaultAction"] == "SCMP_ACT_ERRNO" and 0 <= highest < number_of(name):
        return ERRNO | errno.ENOSYS
    applying = [
        outcome(rule["action"], rule.get("errnoRet"))
        for rule in document["syscalls"]
        if name in rule["names"] and all(holds(condition, arguments) for condition in rule.get("args", []))
    ]
    # The kernel's order: the lowest action, as a signed number, is the strictest; of equals the first.
    return min(applying, key=lambda value: (value & 0xFFFF0000) - (value >> 31 << 32), default=default)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=objects(), data=st.data())
def test_any_object_means_what_it_says_or_is_refused_by_name(document: dict[str, Any], data: Any) -> None:
    """Whatever object is given: the filter agrees with it on every call, or the error names its key."""
    try:
        program = compile_filter(profile_of(document))
    except InputError:
        assert refusal(document).startswith("linux.seccomp.")
        return
    mentioned = [
        value
        for rule in document["syscalls"]
        for condition in rule.get("args", [])
        for value in (condition["value"], condition["valueTwo"])
    ]
    values = st.one_of(VALUES, st.sampled_from([0, *mentioned]))
    for name in NAMES:
        if number_of(name) >= 0:
            arguments = data.draw(st.tuples(*[values] * 6))
            assert verdict(program, number_of(name), arguments) == expected(document, name, arguments)
