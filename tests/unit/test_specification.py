"""The runtime specification: each field is read, honoured or refused by the path of its key."""

from __future__ import annotations

import copy
import json
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybench.runtime.container import system_calls
from pybench.runtime.container.specification.bundle import LARGEST_DOCUMENT, load_bundle, parse, parse_process
from pybench.runtime.container.specification.capability_names import (
    NAMES,
    capability_sets,
    to_bits,
    to_names,
)
from pybench.runtime.container.specification.decode import field_paths
from pybench.runtime.container.specification.linux import IdMapping, Namespace
from pybench.runtime.container.specification.model import Capabilities, Specification
from pybench.runtime.container.specification.mounts import (
    MOUNT_ATTR_ATIME,
    MOUNT_ATTR_NOATIME,
    MS_SHARED,
    Change,
    MountOptions,
    Propagation,
    parse_options,
)
from pybench.runtime.container.specification.namespaces import clone_flags, sysctl_path
from pybench.runtime.container.specification.rlimit_names import RLIMITS
from pybench.runtime.container.specification.support import HONOURED, REFUSED
from pybench.runtime.errors import InputError

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["/bin/true"], "cwd": "/"},
}

RUNC_SPEC = Path(__file__).with_name("runc-spec.json")
"""What `runc spec` of runc 1.1.5 writes."""


def with_value(path: str, value: object, document: dict[str, Any] | None = None) -> dict[str, Any]:
    """A document, the minimal one if none is given, with one more value: `linux.namespaces` = …."""
    changed = copy.deepcopy(MINIMAL if document is None else document)
    place = changed
    *parents, last = path.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return changed


def read(document: object) -> tuple[Specification, tuple[str, ...]]:
    """The specification and warnings of a document."""
    return parse(json.dumps(document).encode())


def refusal(document: object) -> str:
    """How a document is refused."""
    with pytest.raises(InputError) as caught:
        read(document)
    return caught.value.message


def test_every_field_is_in_the_table_once() -> None:
    """Each field of the vocabulary is either honoured or refused, and the tables name no other."""
    assert set(field_paths(Specification)) == HONOURED | REFUSED.keys()
    assert not HONOURED & REFUSED.keys()
    assert all(refusal.reason for refusal in REFUSED.values())


def test_what_runc_writes_is_read(tmp_path: Path) -> None:
    """The output of `runc spec` is a specification; its ambient capabilities cannot be had and are named."""
    (tmp_path / "config.json").write_bytes(RUNC_SPEC.read_bytes())
    bundle = load_bundle(tmp_path)
    specification = bundle.specification
    assert bundle.root == tmp_path / "rootfs"
    assert specification.process is not None
    assert specification.process.args == ("sh",)
    assert specification.process.rlimits[0].type == "RLIMIT_NOFILE"
    assert specification.mounts[2].options[-1] == "gid=5"
    assert clone_flags(specification.linux.namespaces) == (
        system_calls.CLONE_NEWPID | system_calls.CLONE_NEWNET | system_calls.CLONE_NEWIPC
        | system_calls.CLONE_NEWUTS | system_calls.CLONE_NEWNS
    )  # fmt: skip
    assert [warning.split(":")[0] for warning in bundle.warnings] == ["process.capabilities.ambient"] * 3
    assert given_paths(json.loads(RUNC_SPEC.read_bytes())) <= HONOURED


def given_paths(value: object, path: str = "") -> set[str]:
    """The paths of a document as the tables write them."""
    if isinstance(value, dict):
        return set().union(
            *(given_paths(item, f"{path}.{key}".removeprefix(".")) for key, item in value.items())
        )
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(given_paths(item, f"{path}[]") for item in value))
    return {path}


def test_unknown_properties_are_told() -> None:
    """A property that the specification does not define is no error but a warning with its path."""
    document = with_value("linux.resources.memory.colour", 1)
    document["my extension"] = {}
    document["mounts"] = [{"destination": "/tmp", "type": "tmpfs", "Source": "x"}]
    assert [warning.partition(": ")[0] for warning in read(document)[1]] == [
        "mounts[0].Source",
        "linux.resources.memory.colour",
        "['my extension']",
    ]


def test_null_counts_as_absent() -> None:
    """Programs in Go write null for what is not set."""
    assert read(with_value("linux.resources.cpu.quota", None))[0].linux.resources.cpu.quota is None
    assert refusal(with_value("process.cwd", None)) == "config.json: process.cwd: is required and not given"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.resources.cpu.quota", "1"),
        ("linux.resources.cpu.quota", True),
        ("linux.resources.cpu.quota", 1.0),
        ("linux.resources.cpu.quota", 2**63),
        ("linux.resources.cpu.shares", -1),
        ("process.user.uid", -1),
        ("process.terminal", 1),
        ("process.args", "sh"),
        ("process.args", [1]),
        ("process.args", ["a\0b"]),
        ("process.args", ["\ud800"]),
        ("hostname", 1),
        ("mounts", {}),
        ("annotations", []),
        ("annotations", {"a": 1}),
        ("linux", 7),
        ("linux.namespaces", [{"type": "chroot"}]),
    ],
)
def test_ill_typed_values_are_refused_by_path(path: str, value: object) -> None:
    """The message names the file and the path of the key."""
    assert refusal(with_value(path, value)).startswith(f"config.json: {path}")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("solaris", {"milestone": "x"}, "solaris"),
        ("windows", {"layerFolders": []}, "windows"),
        ("zos", {"a": 1}, "zos"),
        ("vm", {"kernel": {}}, "vm"),
        ("process.selinuxLabel", "a:b:c", "process.selinuxLabel"),
        ("process.apparmorProfile", "docker-default", "process.apparmorProfile"),
        ("process.commandLine", "cmd.exe", "process.commandLine"),
        ("linux.mountLabel", "a:b:c", "linux.mountLabel"),
        ("linux.intelRdt", {"closID": "a"}, "linux.intelRdt"),
        ("linux.resources.network", {"classID": 1}, "linux.resources.network.classID"),
        ("linux.resources.rdma", {"mlx5_1": {"hcaHandles": 3}}, "linux.resources.rdma.mlx5_1.hcaHandles"),
        ("linux.resources.memory.disableOOMKiller", True, "linux.resources.memory.disableOOMKiller"),
        (
            "linux.resources.blockIO.weightDevice",
            [{"major": 8, "minor": 0, "leafWeight": 10}],
            "linux.resources.blockIO.weightDevice[0].leafWeight",
        ),
    ],
)
def test_what_is_not_supported_is_refused_with_its_reason(path: str, value: object, named: str) -> None:
    """A field of the specification that is not honoured is refused and never ignored."""
    assert refusal(with_value(path, value)).startswith(f"config.json: {named}: is not supported: ")


def test_unsupported_fields_that_ask_for_nothing_may_stay() -> None:
    """What Docker and Podman always write does no harm."""
    document = with_value("linux.resources.memory", {"disableOOMKiller": False, "useHierarchy": True})
    document["process"]["apparmorProfile"] = "unconfined"
    document["process"]["selinuxLabel"] = ""
    document["process"]["consoleSize"] = {"height": 0, "width": 0}
    document["windows"] = {}
    document["linux"]["resources"]["blockIO"] = {"weight": 0, "leafWeight": 0}
    document["linux"]["resources"]["cpu"] = {"shares": 0, "realtimeRuntime": 0}
    document["linux"]["resources"]["pids"] = {"limit": -1}
    assert read(document)[1] == ()


NET = [{"type": "network"}]
USER = [{"type": "user"}]
RANGE = {"containerID": 0, "hostID": 1000, "size": 10}


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("ociVersion", "2.0.0", "ociVersion"),
        ("ociVersion", "1.2", "ociVersion"),
        ("root", None, "root"),
        ("root.path", "", "root.path"),
        ("hostname", "box", "hostname: needs the namespace 'uts'"),
        ("domainname", "box", "domainname: needs the namespace 'uts'"),
        ("process.cwd", "tmp", "process.cwd"),
        ("process.args", [], "process.args"),
        ("process.args", [""], "process.args"),
        ("process.env", ["A=1", "B"], "process.env[1]"),
        ("process.env", ["=1"], "process.env[0]"),
        ("process.user", {"uid": 2**32 - 1}, "process.user.uid"),
        ("process.user", {"additionalGids": [0, 2**32 - 1]}, "process.user.additionalGids[1]"),
        ("process.user", {"umask": 0o1000}, "process.user.umask"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
        ("process.rlimits", [{"type": "RLIMIT_X", "soft": 0, "hard": 0}], "process.rlimits[0].type"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 0}], "process.rlimits[0].soft"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 0, "hard": 0}] * 2, "process.rlimits[1].type"),
        ("process.capabilities", {"bounding": ["CAP_X"]}, "process.capabilities.bounding[0]"),
        ("process.capabilities", {"effective": ["CAP_KILL"]}, "process.capabilities.effective"),
        ("process.scheduler", {"policy": "SCHED_FIFO"}, "process.scheduler.priority"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "process.scheduler.priority"),
        ("process.scheduler", {"policy": "SCHED_IDLE", "nice": 1}, "process.scheduler.nice"),
        ("process.scheduler", {"policy": "SCHED_ISO"}, "process.scheduler.policy"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "runtime": 1}, "process.scheduler.runtime"),
        ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 2}, "process.scheduler.runtime"),
        (
            "process.scheduler",
            {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN"]},
            "process.scheduler.flags[0]",
        ),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority"),
        ("process.ioPriority", {"class": "BE"}, "process.ioPriority.class"),
        ("process.execCPUAffinity", {"initial": "a"}, "process.execCPUAffinity.initial"),
        ("mounts", [{"destination": "tmp", "type": "tmpfs"}], "mounts[0].destination"),
        ("mounts", [{"destination": "/tmp"}], "mounts[0].type"),
        ("mounts", [{"destination": "/tmp", "options": ["bind"]}], "mounts[0].source"),
        ("mounts", [{"destination": "/tmp", "type": "bind"}], "mounts[0].source"),
        (
            "mounts",
            [{"destination": "/tmp", "type": "tmpfs", "uidMappings": [RANGE]}],
            "mounts[0].gidMappings",
        ),
        ("mounts", [{"destination": "/a", "type": "tmpfs", "options": ["remount"]}], "mounts[0].options[0]"),
        ("hooks", {"poststop": [{"path": "hook"}]}, "hooks.poststop[0].path"),
        ("hooks", {"prestart": [{"path": "/hook", "timeout": 0}]}, "hooks.prestart[0].timeout"),
        ("hooks", {"createRuntime": [{"path": "/hook", "env": ["X"]}]}, "hooks.createRuntime[0].env[0]"),
        ("linux.namespaces", NET * 2, "linux.namespaces[1].type"),
        ("linux.namespaces", [{"type": "network", "path": "ns"}], "linux.namespaces[0].path"),
        ("linux.namespaces", USER, "linux.uidMappings: a new namespace 'user'"),
        ("linux.uidMappings", [RANGE], "linux.uidMappings: needs the namespace 'user'"),
        ("linux", {"namespaces": USER, "uidMappings": [{**RANGE, "size": 0}]}, "linux.uidMappings[0].size"),
        ("linux", {"namespaces": USER, "uidMappings": [RANGE, RANGE]}, "linux.uidMappings: two ranges"),
        (
            "linux",
            {"namespaces": USER, "uidMappings": [RANGE], "gidMappings": [{**RANGE, "hostID": 2**32 - 5}]},
            "linux.gidMappings[0].hostID",
        ),
        ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets: needs the namespace 'time'"),
        (
            "linux",
            {"namespaces": [{"type": "time"}], "timeOffsets": {"realtime": {}}},
            "linux.timeOffsets: 'realtime'",
        ),
        ("linux.devices", [{"path": "fuse", "type": "c"}], "linux.devices[0].path"),
        ("linux.devices", [{"path": "/dev/x", "type": "c", "major": -1}], "linux.devices[0].major"),
        ("linux.devices", [{"path": "/dev/x", "type": "d"}], "linux.devices[0].type"),
        ("linux.cgroupsPath", "/a/../b", "linux.cgroupsPath"),
        ("linux.rootfsPropagation", "public", "linux.rootfsPropagation"),
        ("linux.maskedPaths", ["proc"], "linux.maskedPaths[0]"),
        ("linux.readonlyPaths", ["/proc", "sys"], "linux.readonlyPaths[1]"),
        ("linux.personality", {"domain": "BSD"}, "linux.personality.domain"),
        ("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "linux.personality.flags[0]"),
        ("linux.sysctl", {"net.ipv4.ip_forward": "1"}, "linux.sysctl['net.ipv4.ip_forward']"),
        ("linux.sysctl", {"kernel.core_pattern": "x"}, "linux.sysctl['kernel.core_pattern']"),
        ("linux", {"namespaces": NET, "sysctl": {"net/../kernel/x": ""}}, "linux.sysctl['net/../kernel/x']"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction"),
        ("linux.resources.devices", [{"allow": True, "access": "x"}], "linux.resources.devices[0].access"),
        ("linux.resources.memory", {"limit": -2}, "linux.resources.memory.limit"),
        ("linux.resources.memory", {"swap": 5}, "linux.resources.memory.swap"),
        ("linux.resources.memory", {"limit": 9, "swap": 5}, "linux.resources.memory.swap"),
        ("linux.resources.cpu", {"shares": 1}, "linux.resources.cpu.shares"),
        ("linux.resources.cpu", {"quota": -2}, "linux.resources.cpu.quota"),
        ("linux.resources.cpu", {"quota": 5, "burst": 6}, "linux.resources.cpu.burst"),
        ("linux.resources.cpu", {"idle": 2}, "linux.resources.cpu.idle"),
        ("linux.resources.cpu", {"cpus": "0-"}, "linux.resources.cpu.cpus"),
        ("linux.resources.cpu", {"mems": "0\n1"}, "linux.resources.cpu.mems"),
        ("linux.resources.pids", [], "linux.resources.pids"),
        ("linux.resources.blockIO", {"weight": 9}, "linux.resources.blockIO.weight"),
        (
            "linux.resources.hugepageLimits",
            [{"pageSize": "2M", "limit": 0}],
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        ("linux.resources.unified", {"../x.y": "1"}, "linux.resources.unified['../x.y']"),
        ("linux.resources.unified", {"cgroup.procs": "1"}, "linux.resources.unified['cgroup.procs']"),
        ("linux.resources.unified", {"memory.high": " "}, "linux.resources.unified['memory.high']"),
    ],
)
def test_broken_rules_are_named_by_path(path: str, value: object, named: str) -> None:
    """What no kernel or no container can do is refused before anything is made."""
    assert refusal(with_value(path, value)).startswith(f"config.json: {named}")


def test_a_full_document_is_read() -> None:
    """Every honoured part of the vocabulary can be given at once."""
    document = with_value("hostname", "box")
    document["domainname"] = "example"
    document["annotations"] = {"org.example": "1"}
    document["process"] |= {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [7]},
        "env": ["A=", "B==c"],
        "scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7},
        "execCPUAffinity": {"initial": "0-3,7", "final": "1"},
        "capabilities": {name: ["CAP_BPF"] for name in ("permitted", "inheritable", "ambient", "effective")},
    }
    document["linux"] = {
        "namespaces": [{"type": kind} for kind in ("user", "uts", "time", "network", "ipc")],
        "uidMappings": [RANGE, {"containerID": 10, "hostID": 5000, "size": 1}],
        "gidMappings": [RANGE],
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 1}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}],
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "kernel/sem": "1 2 3 4"},
        "rootfsPropagation": "rslave",
        "personality": {"domain": "LINUX32"},
        "resources": {
            "unified": {"memory.high": "1G"},
            "cpu": {"quota": 5, "burst": 5, "cpus": "0"},
            "memory": {"limit": 10, "swap": -1},
            "blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 9}]},
        },
    }
    specification, warnings = read(document)
    assert warnings == ()
    assert specification.linux.resources.block_io.throttle_read_iops_device[0].rate == 9
    assert specification.linux.uid_mappings[0] == IdMapping(container_id=0, host_id=1000, size=10)
    assert specification.process is not None
    assert specification.process.user.additional_gids == (7,)


def test_a_host_name_is_given_once() -> None:
    """A host name in two places is a contradiction."""
    document = with_value("linux", {"namespaces": [{"type": "uts"}], "sysctl": {"kernel/hostname": "a"}})
    assert read(document)
    document["hostname"] = "b"
    assert "linux.sysctl['kernel/hostname']" in refusal(document)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"ociVersion": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "not JSON"),
        (b"[]", "expected an object"),
        (b" " * (LARGEST_DOCUMENT + 1), "larger than"),
    ],
)
def test_what_is_no_document_is_refused(text: bytes, problem: str) -> None:
    """Text that programs would read differently, or not at all, is not guessed at."""
    with pytest.raises(InputError, match=re.escape(problem)):
        parse(text)


def test_long_and_hostile_values_are_cut_and_escaped() -> None:
    """A message cannot be flooded, nor can it carry control characters to a terminal."""
    message = refusal(with_value("process.cwd", "\x1b[2J" + "x" * 10_000))
    assert "\x1b" not in message
    assert len(message) < 200


def test_a_process_of_its_own_is_read() -> None:
    """The process that joins a container is given alone and obeys the same rules."""
    process, warnings = parse_process(b'{"args": ["sh"], "cwd": "/", "x": 1}', "process.json")
    assert process.args == ("sh",)
    assert warnings == ("process.x: not a property of the runtime specification; ignored",)
    with pytest.raises(InputError, match=r"process\.json: process\.selinuxLabel: is not supported"):
        parse_process(b'{"args": ["sh"], "cwd": "/", "selinuxLabel": "a"}', "process.json")


class TestBundle:
    """A bundle is read without leaving its directory."""

    def test_missing(self, tmp_path: Path) -> None:
        """The message names the file."""
        with pytest.raises(InputError, match=r"config\.json: No such file"):
            load_bundle(tmp_path)

    def test_a_link_does_not_lead_outside(self, tmp_path: Path) -> None:
        """A symbolic link is resolved as if the bundle were the root directory."""
        outside = tmp_path / "outside.json"
        outside.write_text(json.dumps(MINIMAL), encoding="utf-8")
        bundle = tmp_path / "bundle"
        bundle.mkdir()
        for target in (str(outside), "../outside.json"):
            (bundle / "config.json").symlink_to(target)
            with pytest.raises(InputError, match="No such file"):
                load_bundle(bundle)
            (bundle / "config.json").unlink()

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        """Only a regular file is read."""
        os.mkfifo(tmp_path / "config.json")
        with pytest.raises(InputError, match="not a regular file"):
            load_bundle(tmp_path)

    def test_size_is_bounded(self, tmp_path: Path) -> None:
        """No more than a mebibyte is read."""
        with (tmp_path / "config.json").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(InputError, match="larger than"):
            load_bundle(tmp_path)

    def test_errors_name_file_and_path(self, tmp_path: Path) -> None:
        """The whole path of the file stands before that of the key."""
        place = tmp_path / "config.json"
        place.write_text(json.dumps(with_value("process.cwd", "x")), encoding="utf-8")
        with pytest.raises(InputError) as caught:
            load_bundle(tmp_path)
        assert caught.value.message.startswith(f"{place}: process.cwd: ")


class TestMountOptions:
    """Options become attributes, flags and data."""

    def test_attributes(self) -> None:
        """Of two that contradict each other the later wins; access times are one field."""
        options = parse_options("tmpfs", ["ro", "nosuid", "rw", "noatime", "size=64k", "mode=755"], "o")
        assert options.attributes.set == system_calls.MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME
        assert options.attributes.clear == system_calls.MOUNT_ATTR_RDONLY | MOUNT_ATTR_ATIME
        assert options.data == ("size=64k", "mode=755")

    def test_recursive_attributes_are_told_apart(self) -> None:
        """`rro` is about all mounts beneath, `ro` about this one."""
        options = parse_options("bind", ["rbind", "rro", "nodev"], "o")
        assert options.bind == "rbind"
        assert options.recursive_attributes == Change(set=system_calls.MOUNT_ATTR_RDONLY)
        assert options.attributes == Change(set=system_calls.MOUNT_ATTR_NODEV)

    def test_bind_by_type_or_option(self) -> None:
        """The type `bind` and the option mean the same."""
        assert parse_options("bind", [], "o") == parse_options("none", ["bind"], "o")
        assert parse_options("none", ["idmap", "ridmap", "bind"], "o").id_map == "ridmap"

    def test_propagation_superblock_and_copy_up(self) -> None:
        """Propagation keeps its order, flags of the file system stand apart from its data."""
        options = parse_options("tmpfs", ["rprivate", "shared", "sync", "defaults", "tmpcopyup"], "o")
        assert options.propagation == (
            Propagation(system_calls.MS_PRIVATE, recursive=True),
            Propagation(MS_SHARED, recursive=False),
        )
        assert options.superblock == ("sync",)
        assert options.copy_up
        assert parse_options("tmpfs", ["defaults", "nomand"], "o") == MountOptions()

    @pytest.mark.parametrize(
        ("kind", "options", "named"),
        [
            ("tmpfs", ["ro", "remount"], "o[1]"),
            ("tmpfs", ["size=1,dev"], "o[0]"),
            ("tmpfs", [""], "o[0]"),
            ("bind", ["size=1"], "o: 'size=1'"),
            ("bind", ["sync"], "o: 'sync'"),
            ("proc", ["tmpcopyup"], "o: tmpcopyup"),
            ("tmpfs", ["mand"], "o[0]: mand"),
        ],
    )
    def test_refused(self, kind: str, options: list[str], named: str) -> None:
        """What a mount cannot have is refused by its place."""
        with pytest.raises(InputError) as caught:
            parse_options(kind, options, "o")
        assert caught.value.message.startswith(named)


def test_capability_names_are_those_of_the_kernel() -> None:
    """The numbers are those of <linux/capability.h>."""
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    defined = re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", header.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(number) for name, number in defined} == {name: n for n, name in enumerate(NAMES)}


@given(st.frozensets(st.sampled_from(NAMES)))
def test_capabilities_there_and_back(names: frozenset[str]) -> None:
    """A bit set has the names it was made of."""
    assert set(to_names(to_bits(sorted(names), "x"))) == names


def test_ambient_capabilities_need_two_other_sets() -> None:
    """An ambient capability that the kernel would refuse is left out with a warning."""
    given_ = Capabilities(
        permitted=("CAP_KILL", "CAP_CHOWN"), inheritable=("CAP_KILL",), ambient=("CAP_KILL", "CAP_CHOWN")
    )
    sets, warnings = capability_sets(given_)
    assert to_names(sets.ambient) == ("CAP_KILL",)
    assert [warning.partition(" ")[2].split()[0] for warning in warnings] == ["CAP_CHOWN"]


def test_limits_have_the_numbers_of_the_kernel() -> None:
    """The numbers agree with those that Python knows."""
    import resource

    known = {name: getattr(resource, name) for name in RLIMITS if hasattr(resource, name)}
    assert len(known) > 10
    assert {name: RLIMITS[name] for name in known} == known


def test_joined_namespaces_are_not_made() -> None:
    """Only namespaces without a path are new."""
    joined = Namespace(type="network", path="/run/netns/a")
    assert clone_flags([joined, Namespace(type="time")]) == system_calls.CLONE_NEWTIME


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net", None),
        ("net..x", None),
        ("net/../kernel/x", None),
        ("net.//.kernel.x", None),
        ("/net/x", None),
        ("net.a b", None),
    ],
)
def test_names_of_sysctls(name: str, path: str | None) -> None:
    """Names are read as sysctl(8) reads them, and none leads out of /proc/sys."""
    assert sysctl_path(name) == path


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=8),
    st.sampled_from(["/", "/x", "uts", "ro", "bind", "CAP_KILL", "A=b", "RLIMIT_CPU", "user", "c"]),
)  # fmt: skip
KEYS = sorted({key for path in field_paths(Specification) for key in re.split(r"[.\[\]{}]+", path) if key})
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(string.ascii_letters, max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)
PATH = re.compile(r"[A-Za-z]+(\.\w+|\[\d+\]|\['.*?'…?\]|\[\".*?\"…?\])*:? ")


@settings(max_examples=600, deadline=None)
@given(path=st.sampled_from(sorted(field_paths(Specification))), value=ANYTHING, data=st.data())
def test_any_document_is_read_or_refused_by_path(path: str, value: object, data: Any) -> None:
    """Whatever stands anywhere in a document: it is read, or the error names a path, and nothing else."""
    document = json.loads(RUNC_SPEC.read_bytes()) if data.draw(st.booleans()) else copy.deepcopy(MINIMAL)
    keys = path.replace("{}", "").replace("[]", "").split(".")
    depth = data.draw(st.integers(1, len(keys)))
    place: Any = document
    for key in keys[: depth - 1]:
        place = place.setdefault(key, {})
        if isinstance(place, list):
            place = place[0]
    place[keys[depth - 1]] = value
    try:
        _, warnings = read(document)
    except InputError:
        message = refusal(document).removeprefix("config.json: ")
        named = PATH.match(message) is not None
        assert named or "given twice" in message or "not a number in JSON" in message, message
        return
    assert all(": " in warning for warning in warnings)
