"""Random specifications, run for real."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oci_bundles import Runtime, container_configuration, set_value

IDS: Final = st.integers(0, 70_000)
PATHS: Final = st.sampled_from(
    ["/", "/etc", "/a/b", "/proc/self/fd/3", "/link", "/bin/sh", "/dev/null", "/dev/../x"]
)
KINDS: Final = ("pid", "mount", "ipc", "uts", "network", "cgroup", "time", "user")
CAPABILITIES: Final = ("CAP_KILL", "CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_NONE")
MOUNT: Final = st.fixed_dictionaries(
    {
        "destination": PATHS,
        "type": st.sampled_from(["tmpfs", "proc", "sysfs", "mqueue", "devpts", "cgroup", "bind", "nosuchfs"]),
        "source": st.sampled_from(["x", "/etc", "/etc/hostname", "/nowhere"]),
        "options": st.lists(
            st.sampled_from(
                ["ro", "nosuid", "noexec", "bind", "rbind", "size=64k", "mode=700", "rro", "slave"]
            ),
            max_size=4,
        ),
    }
)
LIMIT: Final = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_X"]),
        "soft": st.integers(8, 99),
        "hard": st.integers(8, 99),
    }
)
DEVICE: Final = st.fixed_dictionaries(
    {
        "path": PATHS,
        "type": st.sampled_from("cbup"),
        "major": st.integers(-1, 5),
        "minor": st.integers(0, 5),
    }
)
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "process.cwd": PATHS,
    "process.user": st.fixed_dictionaries(
        {"uid": IDS, "gid": IDS, "additionalGids": st.lists(IDS, max_size=3)}
    ),
    "process.args": st.sampled_from([["/bin/true"], ["true"], ["nothing"], [""], ["/etc"], []]),
    "process.rlimits": st.lists(LIMIT, max_size=2),
    "process.capabilities": st.dictionaries(
        st.sampled_from(["bounding", "permitted", "effective", "inheritable", "ambient"]),
        st.lists(st.sampled_from(CAPABILITIES), max_size=3),
    ),
    "process.oomScoreAdj": st.integers(-1, 1001),
    "process.noNewPrivileges": st.booleans(),
    "root.readonly": st.booleans(),
    "linux.namespaces": st.lists(st.sampled_from(KINDS), unique=True).map(
        lambda kinds: [{"type": kind} for kind in sorted({*kinds, "mount"})]
    ),
    "linux.uidMappings": st.just([{"containerID": 0, "hostID": 0, "size": 65536}]),
    "linux.maskedPaths": st.lists(PATHS, max_size=3),
    "linux.readonlyPaths": st.lists(PATHS, max_size=3),
    "linux.sysctl": st.dictionaries(
        st.sampled_from(["net.ipv4.ip_forward", "kernel.shmmax", "kernel.panic", "net.nothing"]),
        st.sampled_from(["0", "1", "x"]),
        max_size=2,
    ),
    "linux.resources": st.sampled_from(
        [
            {"pids": {"limit": 9}},
            {"memory": {"limit": 32 << 20}},
            {"memory": {"limit": 4096}},
            {"memory": {"swappiness": 3}},
            {"cpu": {"cpus": "0-999"}},
            {"devices": [{"allow": True, "type": "c", "access": "m"}]},
        ]
    ),
    "linux.devices": st.lists(DEVICE, max_size=2),
    "linux.seccomp": st.sampled_from(["ALLOW", "ERRNO", "KILL", "NOTHING"]).map(
        lambda action: {"defaultAction": f"SCMP_ACT_{action}"}
    ),
    "hooks": st.sampled_from(
        [
            {"prestart": [{"path": "/bin/true"}]},
            {"createRuntime": [{"path": "/bin/false"}]},
            {"startContainer": [{"path": "/bin/nothing"}]},
        ]
    ),
    "mounts": st.lists(MOUNT, max_size=3),
    **dict.fromkeys(
        ("hostname", "process", "linux", "root", "process.env"),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=2),
    ),
}
CHANGE: Final = st.sampled_from(sorted(VALUES)).flatmap(lambda path: st.tuples(st.just(path), VALUES[path]))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.lists(CHANGE, min_size=1, max_size=4), extra=st.lists(MOUNT, max_size=2))
def test_any_specification_runs_or_is_refused(
    runtime: Runtime, changes: list[tuple[str, Any]], extra: list[dict[str, Any]]
) -> None:
    """The program runs, or the command says what is wrong; nothing is left in either case."""
    configuration = container_configuration("/bin/true")
    configuration["mounts"] += extra
    for path, value in changes:
        try:
            set_value(configuration, path, value)
        except (AttributeError, TypeError):
            continue  # an earlier change has put something else in the place of the object
    bundle = runtime.bundle(configuration)
    (bundle / "rootfs" / "link").symlink_to("/etc/../..")
    finished = runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
    said = finished.stderr.splitlines()
    assert all(line.startswith("pybench-oci: ") for line in said), finished.stderr
    # Killed by its own filter or limit it has run.
    if 0 < finished.returncode < 128:
        assert said, finished.returncode
    runtime.assert_nothing_is_left()
