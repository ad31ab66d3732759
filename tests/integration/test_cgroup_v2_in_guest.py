"""Version 2 of control groups, run for real: in a guest, for this host may have version 1 alone.

The guest is the image `minimal` with this interpreter in its initramfs; `cgroup_guest_program.py` is its
first process. One boot serves all tests.
"""

from __future__ import annotations

import json
import os
import py_compile
import re
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cgroup_guest_program
import pytest
from patience import PATIENCE

from pybench.runtime.vm.initramfs import ArchiveEntry, write_archive
from pybench.vm_images import Image

MEBIBYTE = 2**20
BOOT_TIMEOUT = 900
"""Seconds; it takes some twenty on a quiet machine."""
PROGRAM = "/pybench-guest.py"

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the program in the guest saw."""
    folder = tmp_path_factory.mktemp("cgroup-guest")
    initramfs = folder / "initramfs.cpio"
    with initramfs.open("wb") as output:
        output.write(image.initramfs.read_bytes())
        write_archive(guest_files(folder), output)
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(8 * MEBIBYTE)
    console = boot(image.kernel, initramfs, disk)
    for line in console.splitlines():
        if line.startswith(cgroup_guest_program.MARKER):
            found: Results = json.loads(line.removeprefix(cgroup_guest_program.MARKER))
            return found
    pytest.fail(f"the guest told nothing; its console ends with:\n{console[-4000:]!a}")


def boot(kernel: Path, initramfs: Path, disk: Path) -> str:
    """Run the guest to its end; returns what it wrote to its console.

    The processor model has RDRAND: Python does not start before the kernel has random numbers.
    """
    interpreter = Path(sys.executable).resolve()
    # What the kernel complains of when an emulated processor stood still would cut the answer in two.
    command_line = (
        "console=ttyS0 quiet loglevel=1 panic=-1 psi=1 cgroup_no_v1=all "
        f"rdinit={interpreter} -- -I -S {PROGRAM}"
    )
    completed = subprocess.run(
        [
            *(
                "qemu-system-x86_64",
                "-accel",
                "tcg",
                "-machine",
                "q35",
                "-cpu",
                "max",
                "-m",
                "512",
                "-smp",
                "2",
            ),
            *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
            *(
                "-drive",
                f"file={disk},if=none,format=raw,id=disk",
                "-device",
                "nvme,drive=disk,serial=pybench",
            ),
            *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", command_line),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_TIMEOUT,
        check=True,
    )
    return completed.stdout.decode("utf-8", "backslashreplace").replace("\r\n", "\n")


def guest_files(folder: Path) -> list[ArchiveEntry]:
    """The interpreter, the modules that the program imports, their libraries and the program."""
    standard = Path(sysconfig.get_path("stdlib"))
    files: dict[str, Path] = {}
    for name, file in imported_modules().items():
        inside = file if file.is_relative_to(standard) else standard / package_path(name, file)
        files[str(inside)] = file
        if file.suffix == ".py":
            compiled = folder / f"{name}.pyc"
            # Valid whatever the source's date is, which an archive of ours does not keep.
            py_compile.compile(
                str(file),
                str(compiled),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            cached = inside.parent / "__pycache__" / f"{inside.stem}.{sys.implementation.cache_tag}.pyc"
            files[str(cached)] = compiled
    interpreter = Path(sys.executable).resolve()
    binaries = [interpreter, *(path for path in files.values() if ".so" in path.suffixes)]
    files |= {str(library): library.resolve() for library in libraries(binaries)}
    files[str(interpreter)] = interpreter
    files[PROGRAM] = Path(cgroup_guest_program.__file__)
    return [*directories(files), *(entry(path, source) for path, source in sorted(files.items()))]


def imported_modules() -> dict[str, Path]:
    """Module → file, of everything that the program imports and that has a file."""
    listing = (
        "import sys, json; sys.path.append(sys.argv[1]); import cgroup_guest_program, encodings.ascii\n"
        "print(json.dumps({name: module.__file__ for name, module in sys.modules.items()"
        " if getattr(module, '__file__', None)}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", listing, str(Path(__file__).parent)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    standard = sysconfig.get_path("stdlib")
    return {
        name: Path(file).resolve()
        for name, file in json.loads(answer.stdout).items()
        if name.startswith(("pybench.", "cgroup_guest_"))
        or (file.startswith(standard) and "site-packages" not in file)
    }


def package_path(name: str, file: Path) -> Path:
    """Where a module of ours lies below an entry of sys.path."""
    parts = name.split(".")
    folder = Path(*parts) if file.stem == "__init__" else Path(*parts[:-1])
    return folder / file.name


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs and extensions need, the loader included."""
    found: set[Path] = set()
    for binary in binaries:
        listed = subprocess.run(
            ["ldd", str(binary)], check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout
        found.update(Path(path) for path in re.findall(r"(/\S+) \(0x", listed))
    return found


def directories(files: Iterable[str]) -> list[ArchiveEntry]:
    """Every directory above the files, the uppermost first."""
    above = {str(parent) for file in files for parent in Path(file).parents if str(parent) != "/"}
    return [
        ArchiveEntry(path, stat.S_IFDIR | 0o755)
        for path in sorted(above, key=lambda path: (path.count("/"), path))
    ]


def entry(path: str, source: Path) -> ArchiveEntry:
    """One file, executable as on this host."""
    mode = 0o755 if os.access(source, os.X_OK) else 0o644
    return ArchiveEntry(path, stat.S_IFREG | mode, source)


def facts(results: Results, check: str) -> dict[str, Any]:
    """The facts of one check, which must not have failed."""
    found = results[f"check_{check}"]
    assert "error" not in found, found["error"]
    return found


def test_version_2_is_found_with_every_controller(results: Results) -> None:
    """Its controllers are enabled for groups of ours, and only what no kernel has is unavailable."""
    found = facts(results, "detect")
    assert found["label"] == "v2"
    assert found["parent"] == "/sys/fs/cgroup"
    assert found["controllers"] == ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"]
    assert found["unavailable"] == []
    assert found["unknown"] == ["hugetlb 3MB"]


def test_limits_are_what_the_kernel_reads_back(results: Results) -> None:
    """Each limit arrives in its file; the group is gone afterwards."""
    found = facts(results, "read_back")
    disk = found["disk"]
    assert {name: found[name] for name in found if "." in name} == {
        "memory.max": str(64 * MEBIBYTE),
        "memory.swap.max": str(8 * MEBIBYTE),
        "memory.high": str(48 * MEBIBYTE),
        "memory.low": str(16 * MEBIBYTE),
        "cpu.max": "12500 50000",
        "cpu.weight": "100",
        "cpuset.cpus": "1",
        "cpuset.mems": "0",
        "pids.max": "12",
        "io.max": f"{disk} rbps={10 * MEBIBYTE} wbps=max riops=max wiops=500",
        "io.weight": f"default 200\n{disk} 300",
        "hugetlb.2MB.max": str(4 * MEBIBYTE),
        "hugetlb.2MB.rsvd.max": str(4 * MEBIBYTE),
    }
    assert found["left"] is False


def test_a_child_is_cloned_into_its_group(results: Results) -> None:
    """It is there at once, on its CPU, alone where one process is allowed, and sees no group above."""
    found = facts(results, "clone_into")
    assert found["view"] == "0::/"
    assert found["group"] == "0::/into"
    assert found["processes"] is True
    assert found["affinity"] == [1]
    assert found["pids"] == 1


def test_a_quota_holds_a_spinner(results: Results) -> None:
    """A spinner gets a quarter of a CPU, and the throttling is counted."""
    found = facts(results, "quota")
    assert found["share"] == pytest.approx(0.25, rel=0.1)
    assert found["throttled"] > 0.5


def test_forks_beyond_the_limit_fail(results: Results) -> None:
    """No more processes than allowed ever run."""
    found = facts(results, "pids")
    assert found["processes"] == found["counted"] == 4
    assert found["status"] != 0


def test_memory_beyond_the_limit_is_an_oom_kill(results: Results) -> None:
    """The hog is killed and the kill is counted; what it had used is the peak."""
    found = facts(results, "memory")
    assert found["status"] == -9
    assert found["kills"] == 1
    assert found["same"] is True
    assert 24 * MEBIBYTE < found["peak"] <= 32 * MEBIBYTE


def test_rates_of_devices_hold_a_reader(results: Results) -> None:
    """A direct reader of 2 MiB gets no more than its 2 MiB/s, and its bytes are counted."""
    found = facts(results, "io")
    assert found["status"] == 0
    assert found["seconds"] > 0.5
    assert found["read"] >= 2 * MEBIBYTE
    assert found["written"] == 0


def test_a_frozen_group_stands_still(results: Results) -> None:
    """Frozen, a spinner uses no CPU time and nothing can be started; thawed, it goes on."""
    found = facts(results, "freeze")
    assert found["frozen"] == 0
    assert found["thawed"] > 0
    assert "is frozen" in found["refused"]


@pytest.mark.parametrize("way", ["kill", "frozen", "sweep"])
def test_kill_beats_a_fork_bomb(results: Results, way: str) -> None:
    """A bomb at its pids limit is gone after one kill: by cgroup.kill, frozen, and by a sweep."""
    before, after = facts(results, "kill")[way]
    assert (before, after) == (40, 0)


def test_pressure_is_read(results: Results) -> None:
    """Two spinners on one CPU have waited for it."""
    found = facts(results, "pressure")
    assert found["there"] is True
    assert found["cpu"] > 0.2
    assert found["memory"] is not None
    assert found["io"] is True


def test_a_refused_limit_leaves_nothing(results: Results) -> None:
    """An error names the limit and nothing is left; a group of that name is not touched."""
    found = facts(results, "refused")
    refused, taken = found["messages"]
    assert "cannot hold the limit cpuset cpus" in refused
    assert "File exists" in taken
    assert (found["refused"], found["taken"]) == (False, True)


def test_a_group_is_found_again(results: Results) -> None:
    """By its directory, with what is beneath it; one that vanished is a clear error."""
    found = facts(results, "open")
    assert found["seen"] is True
    assert found["status"] == -9
    assert "cannot open the control group" in found["vanished"]
    assert found["processes"] == []


def test_an_ordinary_user_needs_a_delegated_group(results: Results) -> None:
    """Without one the reason is given; with one, this process moves aside and its limits hold."""
    found = facts(results, "ordinary_user")
    assert "no hierarchy can be written" in found["reason"]
    assert "systemd is not running" in found["reason"]
    assert found["parent"] == "/sys/fs/cgroup/user.scope"
    assert found["place"] == "/sys/fs/cgroup/user.scope/pybench-oci-unused"
    assert found["asked"] == "linux.cgroupsPath: cannot make /sys/fs/cgroup/some: Permission denied"
    assert found["essential"] == []
    assert found["processes"] is True
    assert found["left"] == ["harness"]


def test_a_specification_names_the_place(results: Results) -> None:
    """Its limits are held there, a group in use is refused, and the groups above go with the last below."""
    found = facts(results, "place")
    assert found["held"] == {
        "memory.max": str(64 * MEBIBYTE),
        "memory.swap.max": str(32 * MEBIBYTE),
        "memory.low": str(16 * MEBIBYTE),
        "memory.high": str(48 * MEBIBYTE),
        "cpu.weight": "59",
        "cpu.max": "20000 50000",
        "cpu.max.burst": "10000",
        "cpuset.cpus": "1",
        "pids.max": "12",
        "io.max": f"{facts(results, 'read_back')['disk']} rbps=max wbps=max riops=max wiops=7",
    }
    assert found["group"] == "0::/some/where/deep"
    assert found["affinity"] == [1]
    assert "in use by the processes" in found["used"]
    assert found["inside"].startswith("linux.resources.memory.limit: cannot be held")
    assert found["untouched"] == {"cgroup.subtree_control": "", "cgroup.type": "domain"}
    assert found["beside"] is True
    assert found["default"] == "/sys/fs/cgroup/pybench-oci/unused"
    assert found["idle"] == "1"
    assert found["relative"] == "/sys/fs/cgroup/relative"
    assert found["refused"].startswith("linux.resources.unified[no_such.file]: cannot be held")
    assert found["left"] == []


def test_device_rules_are_a_program(results: Results) -> None:
    """Making, reading and writing of each device are decided by the last rule that says something of it."""
    found = facts(results, "devices")
    assert found["opened"] == "111 000 100 000 "
    assert "Operation not permitted" in found["later"]


def test_limits_change_while_a_process_runs(results: Results) -> None:
    """What is named changes, the rest stays, -1 lifts; a refused change is taken back."""
    found = facts(results, "update")
    disk = facts(results, "read_back")["disk"]
    assert found["seen"] == [
        {
            "memory.max": str(32 * MEBIBYTE),
            "memory.swap.max": str(16 * MEBIBYTE),
            "io.max": f"{disk} rbps={MEBIBYTE} wbps=max riops=max wiops=max",
        },
        {"cpu.max": "10000 50000", "cpu.max.burst": "5000"},
        {"cpu.max": "10000 100000", "io.max": ""},
        {
            "memory.max": "max",
            "memory.swap.max": "max",
            "cpu.max": "max 100000",
            "cpu.weight": "100",
            "pids.max": "max",
        },
    ]
    assert found["refused"].startswith("linux.resources.cpu.cpus: ")
    assert found["unchanged"] is True
    assert "bytes in use" in found["checked"]
    assert found["idle"] == {"cpu.idle": "0", "cpu.weight": "59"}


def test_what_happened_in_a_group_is_told(results: Results) -> None:
    """Statistics in runc's shape, a sentence for the hog and one for the bomb, a hint once it vanished."""
    found = facts(results, "statistics")
    told = found["told"]
    assert told["memory"]["usage"]["limit"] == told["memory"]["swap"]["limit"] == 32 * MEBIBYTE
    assert told["memory"]["usage"]["max"] > 24 * MEBIBYTE
    assert told["cpu"]["usage"]["total"] > 0
    assert told["cpu"]["psi"]["some"]["total"] >= 0
    assert told["pids"] == {"current": 4, "limit": 5}
    assert told["cpuset"]["cpus"] == [0, 1]
    assert told["hugetlb"]["2MB"]["usage"] == 0
    hog, bomb = found["sentences"]
    assert hog == f"out of memory: the kernel killed 1 process(es) at the limit of {32 * MEBIBYTE} bytes"
    assert bomb.startswith("out of processes: ")
    assert len(found["hints"]) == 4
    assert all("it vanished" in hint for hint in found["hints"])


def test_nothing_is_left(results: Results) -> None:
    """At the end the guest has no group of ours."""
    assert results["left"]["groups"] == []
