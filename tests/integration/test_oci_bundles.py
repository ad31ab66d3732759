"""What a specification says, read back from the kernel by what runs in the container."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_bundles import SEALED, Runtime, container_configuration, set_value, shell_configuration
from patience import PATIENCE

MAP = [{"containerID": 0, "hostID": 700_000, "size": 65536}]
MEBIBYTE = 1 << 20


def facts(text: str) -> dict[str, str]:
    """Lines `name value`."""
    return dict(line.split(None, 1) for line in text.splitlines())


def test_the_process(runtime: Runtime) -> None:
    """Who it is, where, with which rights, limits and priorities."""
    configuration = shell_configuration(
        "cat /proc/1/status; echo place $PWD; echo colour $COLOUR; echo score $(cat /proc/1/oom_score_adj);"
        "echo files $(ulimit -Sn) $(ulimit -Hn); echo files-of-core $(ulimit -c);"
        "echo policy $(awk '{print $41}' /proc/1/stat); echo nice $(awk '{print $19}' /proc/1/stat);"
        "echo io $(ionice -p 1); echo machine $(uname -m); echo uptime $(cut -d. -f1 /proc/uptime);"
        "echo names $(hostname) $(cat /proc/sys/kernel/domainname)"
    )
    configuration["domainname"] = "example"
    configuration["process"] |= {
        "user": {"uid": 11, "gid": 12, "additionalGids": [13, 14], "umask": 0o77},
        "cwd": "/var/made/on the way",
        "oomScoreAdj": 300,
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"],
            "permitted": ["CAP_KILL"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 70, "hard": 80},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "scheduler": {"policy": "SCHED_BATCH", "nice": 7},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
    }
    set_value(configuration, "linux.personality", {"domain": "LINUX32"})
    configuration["linux"]["namespaces"].append({"type": "time"})
    set_value(configuration, "linux.timeOffsets", {"boottime": {"secs": 90_000_000}})
    set_value(
        configuration,
        "linux.seccomp",
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        },
    )
    found = facts(runtime.say(configuration))
    kill = f"{1 << 5:016x}"
    expected = {
        "Uid:": "11\t11\t11\t11", "Gid:": "12\t12\t12\t12", "Groups:": "13 14 ", "Umask:": "0077",
        "CapBnd:": f"{1 << 5 | 1:016x}", "CapPrm:": kill, "CapEff:": kill, "CapInh:": kill, "CapAmb:": kill,
        "NoNewPrivs:": "1", "Seccomp:": "2", "place": "/var/made/on the way", "colour": "green",
        "score": "300", "files": "70 80", "files-of-core": "0", "policy": "3", "nice": "7",
        "io": "best-effort: prio 6", "machine": "i686", "names": "box example",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert int(found["uptime"]) > 90_000_000


def test_without_new_privileges_being_forbidden(runtime: Runtime) -> None:
    """The filter and the capabilities hold also where execve may gain privileges."""
    configuration = shell_configuration("cat /proc/1/status; sync 2>&1; echo; mkdir /sync && echo made")
    configuration["process"] |= {"noNewPrivileges": False, "user": {"uid": 5, "gid": 5}}
    seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    set_value(configuration, "linux.seccomp", seccomp)
    finished = runtime.run(configuration, check=False)
    assert "NoNewPrivs:\t0" in finished.stdout
    assert "CapBnd:\t0000000000000000" in finished.stdout
    assert "Operation not supported" in finished.stderr


def test_mounts_of_each_kind(runtime: Runtime, tmp_path: Path) -> None:
    """Binds, file systems and their options; what is missing is made; the read-only root holds."""
    source = tmp_path / "source"
    (source / "beneath").mkdir(parents=True)
    (source / "file").write_text("shared", encoding="ascii")
    configuration = shell_configuration(
        "cat /proc/self/mountinfo; echo; cat /ro/file /rw/file /one/file; echo;"
        "echo new >/rw/new; for place in /ro/x /x /sys/x /made/by/us/x; do touch $place 2>&1; done;"
        "ls /groups/pids /dev/mqueue; ls -d /rw/beneath/deep /flat/beneath/deep 2>&1; true"
    )
    configuration["root"]["readonly"] = True
    configuration["mounts"] += [
        {"destination": "/ro", "type": "bind", "source": str(source), "options": ["bind", "ro", "noexec"]},
        {"destination": "/rw", "type": "none", "source": str(source), "options": ["rbind", "rw", "nosuid"]},
        {"destination": "/flat", "type": "bind", "source": str(source), "options": ["bind", "slave"]},
        {"destination": "/one/file", "type": "bind", "source": str(source / "file"), "options": ["bind"]},
        {"destination": "/made/by/us", "type": "tmpfs", "options": ["size=64k", "mode=700", *SEALED]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SEALED},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SEALED, "ro"]},
        {"destination": "/groups", "type": "cgroup", "source": "cgroup", "options": [*SEALED, "ro"]},
    ]
    with tmpfs_at(source / "beneath"):
        (source / "beneath" / "deep").mkdir()
        said = runtime.say(configuration)
    table, _, rest = said.partition("\n\n")
    mounts = {line.split()[4]: line for line in table.splitlines()}
    assert "ro," in mounts["/"].split()[5] + ","
    assert {"ro", "noexec"} <= options_of(mounts["/ro"])
    assert {"rw", "nosuid"} <= options_of(mounts["/rw"])
    assert {"rw", "nosuid", "nodev", "noexec"} <= options_of(mounts["/made/by/us"])
    assert "size=64k" in mounts["/made/by/us"]
    assert "- mqueue" in mounts["/dev/mqueue"]
    assert "- sysfs" in mounts["/sys"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= options_of(mounts["/groups/pids"])
    assert "/rw/beneath" in mounts
    assert "/flat/beneath" not in mounts
    assert rest.startswith("shared" * 3)
    assert rest.count("Read-only file system") == 3, rest
    assert "pids.max" in rest
    assert "ls: /flat/beneath/deep: No such file" in rest
    assert (source / "new").read_text(encoding="ascii") == "new\n"
    # Every mount is private or a slave: nothing the container mounts reaches the host.
    assert not any("shared:" in line for line in mounts.values())


def options_of(line: str) -> set[str]:
    """The options of one mount, of a line of mountinfo."""
    return set(line.split()[5].split(","))


@contextlib.contextmanager
def tmpfs_at(place: Path) -> Iterator[None]:
    """A file system of the test's own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def test_hidden_and_protected_paths(runtime: Runtime) -> None:
    """A masked file is empty, a masked directory too, and what is read-only cannot be written."""
    configuration = shell_configuration(
        "cat /proc/version /proc/meminfo | wc -c; ls /secret | wc -l; touch /proc/sys/kernel/hostname 2>&1;"
        "touch /kept/x 2>&1; ls /kept"
    )
    configuration["linux"] |= {
        "maskedPaths": ["/proc/version", "/proc/meminfo", "/secret", "/nowhere", "/etc/passwd/x"],
        "readonlyPaths": ["/proc/sys", "/kept", "/nowhere"],
    }
    bundle = runtime.bundle(configuration)
    for name in ("secret", "kept"):
        (bundle / "rootfs" / name).mkdir()
        (bundle / "rootfs" / name / "inside").touch()
    finished = runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
    lines = finished.stdout.splitlines()
    assert lines[:2] == ["0", "0"]
    assert finished.stdout.count("Read-only file system") == 2
    assert lines[-1] == "inside"
    assert finished.stderr == ""


def test_devices(runtime: Runtime) -> None:
    """Those that every container has, those of the specification, and the rules of its group."""
    configuration = shell_configuration(
        "stat -c '%n %t:%T %a %u %F' /dev/null /dev/mem0 /dev/tube /dev/deep/zero;"
        "echo x >/dev/null && echo ok;"
        "cat /dev/mem0 2>&1; head -c 1 /dev/deep/zero | wc -c; readlink /dev/fd"
    )
    configuration["linux"] |= {
        "devices": [
            {"path": "/dev/mem0", "type": "c", "major": 1, "minor": 1, "fileMode": 0o646, "uid": 3, "gid": 4},
            {"path": "/dev/tube", "type": "p"},
            {"path": "/dev/deep/zero", "type": "c", "major": 1, "minor": 5},
        ],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
    }
    said = runtime.say(configuration)
    assert "/dev/null 1:3 666 0 character special file" in said
    assert "/dev/mem0 1:1 646 3 character special file" in said
    assert "/dev/tube 0:0 666 0 fifo" in said
    assert "ok" in said
    assert "can't open '/dev/mem0': Operation not permitted" in said


def test_limits_of_the_group(runtime: Runtime) -> None:
    """The group is where the specification says, with its limits, and the kernel's parameters are set."""
    configuration = shell_configuration(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; cat /proc/self/cgroup; sleep 600"
    )
    path = f"/pybench-test-{os.getpid()}/inner"
    configuration["linux"] |= {
        "cgroupsPath": path,
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678"},
        "resources": {
            "memory": {"limit": 64 * MEBIBYTE, "reservation": 32 * MEBIBYTE},
            "cpu": {"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0"},
            "pids": {"limit": 20},
        },
    }
    with runtime.started(configuration) as box:
        groups = {name: runtime.group(box, name) for name in ("memory", "cpu", "cpuset", "pids")}
        assert {str(group).partition("/sys/fs/cgroup/")[2] for group in groups.values()} == {
            f"{name}{path}" for name in groups
        }
        held = {
            ("memory", "limit_in_bytes"): str(64 * MEBIBYTE),
            ("memory", "soft_limit_in_bytes"): str(32 * MEBIBYTE),
            ("cpu", "cfs_quota_us"): "50000",
            ("cpu", "shares"): "512",
            ("cpuset", "cpus"): "0",
            ("pids", "max"): "20",
        }
        for (name, key), value in held.items():
            assert (groups[name] / f"{name}.{key}").read_text(encoding="ascii").strip() == value
        assert runtime.output(box).splitlines()[:2] == ["1", "12345678"]


def test_a_user_namespace_with_mapped_mounts(runtime: Runtime, tmp_path: Path) -> None:
    """Ids are mapped, privileges are over the container alone, a mapped mount shows root's files."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    configuration = shell_configuration(
        "cat /proc/self/uid_map; stat -c %u /mapped/file /plain/file; touch /mapped/new; ls -l /dev/null;"
        "hostname other && hostname; mount -t tmpfs t /tmp && echo mounted"
    )
    configuration["process"]["capabilities"] = {
        name: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for name in ("bounding", "permitted", "effective")
    }
    configuration["mounts"] += [
        {
            "destination": "/mapped", "type": "bind", "source": str(source), "options": ["bind", "idmap"],
            "uidMappings": MAP, "gidMappings": MAP,
        },
        {"destination": "/plain", "type": "bind", "source": str(source), "options": ["bind", "ro"]},
    ]  # fmt: skip
    configuration["linux"]["namespaces"].append({"type": "user"})
    configuration["linux"] |= {"uidMappings": MAP, "gidMappings": MAP}
    bundle = runtime.bundle(configuration)
    for folder, names, files in os.walk(bundle / "rootfs"):
        for name in (".", *names, *files):
            os.lchown(os.path.join(folder, name), 700_000, 700_000)  # noqa: PTH118
    (tmp_path / "source").chmod(0o777)
    said = runtime.call("run", "-b", str(bundle), runtime.new_id()).stdout.split("\n")
    assert said[0].split() == ["0", "700000", "65536"]
    assert said[1:3] == ["0", "65534"]
    assert "1,   3" in said[3]
    assert said[4:6] == ["other", "mounted"]
    assert (source / "new").stat().st_uid == 0


@contextlib.contextmanager
def unshared(*flags: str) -> Iterator[int]:
    """A process in namespaces of its own; its pid."""
    command = ["unshare", *flags, "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_namespaces_with_a_path_are_joined(runtime: Runtime) -> None:
    """Network, IPC, UTS, cgroup and pid: what is there is entered, by exec too; what is not is refused."""
    kinds = {"network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
    script = "for kind in net ipc uts cgroup pid; do readlink /proc/self/ns/$kind; done; echo $$"
    with (
        unshared("--net", "--ipc", "--uts", "--cgroup") as pid,
        unshared("--pid", "--fork", "--kill-child", "--mount-proc") as forking,
    ):
        inner = int(Path(f"/proc/{forking}/task/{forking}/children").read_text(encoding="ascii"))
        paths = {kind: f"/proc/{pid}/ns/{name}" for kind, name in kinds.items()}
        paths["pid"] = f"/proc/{inner}/ns/pid"
        configuration = shell_configuration(f"{script}; exec sleep 600")
        del configuration["hostname"]
        configuration["linux"]["namespaces"] = [
            {"type": "mount"},
            *({"type": kind, "path": path} for kind, path in paths.items()),
        ]
        expected = [str(Path(path).readlink()) for path in paths.values()]
        with runtime.started(configuration) as box:
            said = runtime.call("exec", box, "/bin/sh", "-c", script).stdout.splitlines()
            assert said[:5] == expected
            assert int(said[5]) > 1
            assert runtime.output(box).splitlines()[:5] == expected
        configuration["linux"]["namespaces"][1]["path"] = "/proc/0/ns/net"
        assert "cannot join the network namespace" in runtime.run(configuration, check=False).stderr
        configuration["linux"]["namespaces"][1]["path"] = paths["ipc"]
        assert "cannot join the network namespace" in runtime.run(configuration, check=False).stderr


class TestLinksOfTheImage:
    """A symbolic link in an image leads nowhere but into the image."""

    @pytest.mark.parametrize("target", ["/victim", "../../../../../../{host}", "{host}"])
    def test_as_the_place_of_a_mount(self, runtime: Runtime, tmp_path: Path, target: str) -> None:
        """The mount is put where the link leads inside; the host's directory of that path stays empty."""
        victim, source = tmp_path / "victim", tmp_path / "source"
        victim.mkdir()
        source.mkdir()
        (source / "mark").touch()
        configuration = shell_configuration("ls /place/")
        configuration["mounts"].append(
            {"destination": "/place", "type": "bind", "source": str(source), "options": ["bind"]}
        )
        bundle = runtime.bundle(configuration)
        (bundle / "rootfs" / "victim").mkdir()
        (bundle / "rootfs" / str(victim).lstrip("/")).mkdir(parents=True)
        (bundle / "rootfs" / "place").symlink_to(target.format(host=victim))
        assert runtime.call("run", "-b", str(bundle), runtime.new_id()).stdout == "mark\n"
        assert list(victim.iterdir()) == []

    def test_as_the_place_of_nodes_and_links(self, runtime: Runtime, tmp_path: Path) -> None:
        """Nodes made in an image's /dev that is a link outwards are made inside."""
        configuration = shell_configuration("ls /dev/")
        configuration["mounts"] = []
        bundle = runtime.bundle(configuration)
        victim = tmp_path / "victim"
        victim.mkdir()
        (bundle / "rootfs" / "dev").rmdir()
        (bundle / "rootfs" / "dev").symlink_to(victim)
        finished = runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
        assert list(victim.iterdir()) == []
        assert finished.returncode == 0 or "/dev" in finished.stderr

    def test_swapped_while_containers_start(self, runtime: Runtime, tmp_path: Path) -> None:
        """A directory that turns into a link outwards again and again never gets a mount outside."""
        victim, source = tmp_path / "victim", tmp_path / "source"
        victim.mkdir()
        source.mkdir()
        (source / "mark").touch()
        configuration = container_configuration("/bin/true")
        for destination in ("/place/a", "/place/b", "/place/c"):
            configuration["mounts"].append(
                {"destination": destination, "type": "bind", "source": str(source), "options": ["bind"]}
            )
        bundle = runtime.bundle(configuration)
        place, other = bundle / "rootfs" / "place", bundle / "rootfs" / "other"
        (bundle / "rootfs" / str(victim).lstrip("/")).mkdir(parents=True)
        place.mkdir()
        other.symlink_to(victim)
        done = threading.Event()

        def swap() -> None:
            while not done.wait(0.0005):
                _exchange(place, other)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(6):
                runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
        finally:
            done.set()
            thread.join()
        assert list(victim.iterdir()) == []

    @pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc/self/fd/64", "/proc/self/root/../fd", "/link"])
    def test_no_working_directory_outside(self, runtime: Runtime, cwd: str) -> None:
        """A link that stands for one of the runtime's own descriptors is no working directory."""
        configuration = container_configuration("/bin/pwd")
        configuration["process"]["cwd"] = cwd
        bundle = runtime.bundle(configuration)
        (bundle / "rootfs" / "link").symlink_to("/proc/self/fd/65/../../../..")
        finished = runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
        assert finished.returncode != 0
        assert f"chdir {cwd} failed" in finished.stderr


def _exchange(first: Path, second: Path) -> None:
    """RENAME_EXCHANGE of renameat2(2)."""
    library = ctypes.CDLL(None, use_errno=True)
    library.renameat2(-100, os.fsencode(first), -100, os.fsencode(second), 2)


HOOK = """#!/bin/sh
cat >{log}.state
echo "$0 $1 $SHAPE $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net)" >>{log}
{end}
"""
POINTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class TestHooks:
    """Programs at the six points of a container's life."""

    def configuration(self, tmp_path: Path, end: dict[str, str]) -> dict[str, Any]:
        """A container with a hook at each point; what runs inside finds its program and log there."""
        configuration = container_configuration("/bin/sleep", "600")
        configuration["mounts"].append(
            {"destination": str(tmp_path), "type": "bind", "source": str(tmp_path), "options": ["rbind"]}
        )
        configuration["hooks"] = {}
        for point in POINTS:
            hook = tmp_path / f"{point}.sh"
            hook.write_text(HOOK.format(log=tmp_path / point, end=end.get(point, "")), encoding="ascii")
            hook.chmod(0o755)
            configuration["hooks"][point] = [
                {
                    "path": str(hook),
                    "args": ["name", "given"],
                    "env": ["SHAPE=round", "PATH=/bin"],
                    # One that is to be late is not waited for; the others have all the time they need.
                    "timeout": 1 if end.get(point, "").startswith("sleep") else round(PATIENCE),
                }
            ]
        return configuration

    def test_each_runs_where_and_when_it_should(self, runtime: Runtime, tmp_path: Path) -> None:
        """At its point, with its arguments and environment, in its namespaces, the state on its input."""
        seen = {}
        with runtime.created(self.configuration(tmp_path, {})) as box:
            pid = runtime.state(box)["pid"]
            inside = [str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("mnt", "net")]
            assert not (tmp_path / "startContainer").exists()
            runtime.call("start", box)
            assert not (tmp_path / "poststop").exists()
            runtime.call("delete", "--force", box)
        for point in POINTS:
            words = (tmp_path / point).read_text(encoding="ascii").split()
            assert words[1:3] == ["given", "round"]
            state = json.loads((tmp_path / f"{point}.state").read_text(encoding="utf-8"))
            assert state["id"] == box
            seen[point] = (state["status"], state["pid"] == pid, words[3:] == inside)
        assert seen == {
            "prestart": ("creating", True, False),
            "createRuntime": ("creating", True, False),
            "createContainer": ("creating", True, True),
            "startContainer": ("created", True, True),
            "poststart": ("running", True, False),
            "poststop": ("stopped", False, False),
        }

    @pytest.mark.parametrize("point", POINTS)
    @pytest.mark.parametrize("end", ["exit 3", "sleep 600"])
    def test_one_that_fails(self, runtime: Runtime, tmp_path: Path, point: str, end: str) -> None:
        """Up to the start a failing or late hook is the end of the container; later it is a warning."""
        bundle = str(runtime.bundle(self.configuration(tmp_path, {point: end})))
        box, log = runtime.new_id(), tmp_path / "log"
        if point in {"prestart", "createRuntime", "createContainer"}:
            assert f"hooks.{point}[0]" in runtime.refusal("create", "-b", bundle, box)
            assert f"{box} does not exist" in runtime.refusal("state", box)
            return
        runtime.detach("create", "-b", bundle, box)
        if point == "startContainer":
            assert f"hook {tmp_path}/startContainer.sh" in runtime.refusal("start", box)
            runtime.call("delete", box)
            return
        runtime.call("--log", str(log), "start", box)
        runtime.call("--log", str(log), "delete", "--force", box)
        assert f"hooks.{point}[0]" in log.read_text(encoding="utf-8")
