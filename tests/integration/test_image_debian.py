"""The image `debian`: built by mmdebstrap, small, the same bits in every form, and every failure told."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_recipes import add_recipe, ignore, use_empty_cache
from vm_guests import Guests

from pybench import vm_images
from pybench.runtime.container.image import ImageStore, export_tree
from pybench.runtime.errors import HostError
from pybench.runtime.journal import open_journal
from pybench.runtime.vm.connection import open_connection
from pybench.vm_images import Image, cache, tree

NOBODY = 65534
TIMEOUT = 600
KERNEL = "kernel: none\n"
BUILD = (
    "import sys\n"
    "from pybench import vm_images\n"
    "from pybench.runtime.errors import PybenchError\n"
    "try:\n"
    "    vm_images.build(sys.argv[1], progress=lambda text: print(text, flush=True))\n"
    "except PybenchError as error:\n"
    "    print(error.message, error.hint, sep='\\n')\n"
)


@pytest.fixture(scope="module")
def debian() -> Image:
    """The image, built once into the user's own cache; not to be changed."""
    return vm_images.build("debian", progress=ignore)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe for the least Debian there is, and an empty cache to build it in."""
    add_recipe(tmp_path / "recipes", "least", f"description: least\nbase: debian\n{KERNEL}", monkeypatch)
    use_empty_cache(tmp_path / "cache", monkeypatch)
    return "least"


def test_it_is_small_and_says_what_is_in_it(debian: Image) -> None:
    """About a hundred megabytes, without manuals or caches; every package is in the manifest."""
    vm_images.verify(debian)
    assert debian.sizes["rootfs"] < 120 << 20
    assert debian.disk is not None
    assert debian.sizes["disk"] < 120 << 20
    assert {"python3", "iproute2", "libc6", "dpkg"} <= debian.packages.keys()
    for path in ("usr/share/doc", "usr/share/man", "usr/share/locale", "boot"):
        assert not (debian.rootfs / path).exists()
    for path in ("var/cache", "var/log", "run", "tmp"):
        assert list((debian.rootfs / path).iterdir()) == []
    assert (debian.rootfs / "etc/resolv.conf").read_text() == ""
    assert (debian.rootfs / "etc/hostname").read_text() == "debian\n"


def test_nothing_in_it_gives_privilege_to_this_hosts_users(debian: Image) -> None:
    """The tree lies in a cache that others can read: no set-user-id program, no device, one owner."""
    for member in tree.members(debian.rootfs):
        assert not member.status.st_mode & 0o6000, member.path
        assert member.status.st_uid == os.geteuid()
    assert (debian.rootfs / "root").stat().st_mode & 0o777 == 0o700
    assert (debian.rootfs / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_pythons_bytecode_is_valid_for_its_sources(debian: Image) -> None:
    """Each is either not to be checked or names date and size of its source: no start compiles anything."""
    checked = 0
    for path in debian.rootfs.glob("usr/lib/python3*/__pycache__/*.pyc"):
        _, flags, date, size = struct.unpack("<4sIII", path.read_bytes()[:16])
        source = path.parent.parent / f"{path.name.split('.')[0]}.py"
        status = source.stat()
        assert flags == 1 or (flags, date, size) == (0, int(status.st_mtime), status.st_size)
        checked += 1
    assert checked > 100


def test_it_boots_to_a_line_of_python(debian: Image) -> None:
    """A guest runs it from its disk with what an audit needs, and cannot write to it."""
    program = (
        "import ctypes, json, os, socket\n"
        "libc = ctypes.CDLL(None)\n"
        "print(json.dumps({'pid': libc.getpid(), 'root': os.statvfs('/').f_flag & os.ST_RDONLY}))\n"
        "print('done', flush=True)\n"
        "import time; time.sleep(1000)\n"
    )
    with open_journal() as journal, open_connection(journal) as connection:
        guests = Guests(connection, debian)
        with guests.running("/usr/bin/python3", "-c", program, line="done") as machine:
            lines = machine.output.splitlines()
        assert guests.traces() == []
    assert '"root": 1' in lines[0]


def test_it_is_exported_as_an_oci_image_with_the_same_bits(debian: Image, tmp_path: Path) -> None:
    """What docker would load, read back, has the image's content hash."""
    export_tree(debian.rootfs, tmp_path / "debian.tar", "debian", date=None)
    store = ImageStore(tmp_path / "store")
    image = store.add(tmp_path / "debian.tar", "copy")
    assert tree.content_hash(image.layers[0].tree) == debian.content_hash


def test_a_package_that_nobody_offers_is_told_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The misspelt name is in the error, and it takes no minute to get there."""
    use_empty_cache(tmp_path / "cache", monkeypatch)
    text = f"description: x\nbase: debian\npackages: [pyhton3]\n{KERNEL}"
    add_recipe(tmp_path / "recipes", "typo", text, monkeypatch)
    said: list[str] = []
    with pytest.raises(HostError, match="no archive that offers the package pyhton3"):
        vm_images.build("typo", progress=said.append)
    assert said == []


def test_a_suite_that_apt_does_not_know_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that neither apt's sources nor the archive of the machine's own suite have."""
    use_empty_cache(tmp_path / "cache", monkeypatch)
    text = f"description: x\nbase: debian\ndebian: {{suite: potato}}\n{KERNEL}"
    add_recipe(tmp_path / "recipes", "old", text, monkeypatch)
    with pytest.raises(HostError, match="potato Release' does not have a Release file") as caught:
        vm_images.build("old", progress=ignore)
    assert "sources.list" in caught.value.hint


def test_without_a_network_the_reason_is_apts_own(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody listens at: an error of the host, and no part of an image."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(HostError, match=r"cannot install the root filesystem: Failed to fetch") as caught:
        vm_images.build(recipe, progress=ignore)
    assert "check the network" in caught.value.hint
    assert [path.name for path in cache.images_directory().iterdir()] == [".least.lock"]


def test_a_full_disk_is_told_and_leaves_nothing(recipe: str, tmp_path: Path) -> None:
    """On a file system of a few megabytes the installation fails with a hint, and its folder is empty."""
    if os.geteuid() != 0:
        pytest.skip("only root's build keeps all of its files in the cache")
    script = f"{BUILD}import os; print(os.listdir(os.environ['PYBENCH_CACHE'] + '/images'))\n"
    full = tmp_path / "full"
    full.mkdir()
    enter = 'mount -t tmpfs -o size=40m tmpfs "$PYBENCH_CACHE" && exec "$@"'
    finished = subprocess.run(
        ["unshare", "--mount", "sh", "-c", enter, "sh", sys.executable, "-c", script, recipe],
        env={**os.environ, cache.CACHE_VARIABLE: str(full)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    *_, hint, left = finished.stdout.splitlines()
    assert "free some space" in hint, finished.stdout
    assert left == "['.least.lock']"


def test_a_killed_installation_leaves_neither_processes_nor_mounts(recipe: str) -> None:
    """What it mounted goes away with it, and its files with the next build."""
    with subprocess.Popen([sys.executable, "-c", BUILD, recipe], stdout=subprocess.DEVNULL) as builder:
        images = cache.images_directory()
        deadline = time.monotonic() + TIMEOUT
        # The new root's list of packages is there, so mmdebstrap is well under way.
        pattern = ".least.building-*/install-*/mmdebstrap.*/var/lib/apt/lists/*Packages*"
        if os.geteuid() != 0:
            pattern = ".least.building-*/install-*/root.tar"
        while not list(images.glob(pattern)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        builder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT
    while _mentioning(str(images)):
        assert time.monotonic() < deadline, _mentioning(str(images))
        time.sleep(0.05)
    assert str(images) not in Path("/proc/self/mountinfo").read_text()
    assert vm_images.list_images() == []
    cache.remove_leftovers(images, recipe)
    assert [path.name for path in images.iterdir()] == [".least.lock"]


def _mentioning(text: str) -> list[str]:
    """Command lines of running processes that contain a text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_an_ordinary_user_without_a_range_of_ids_is_told_what_to_do(recipe: str, tmp_path: Path) -> None:
    """Where mmdebstrap has no ids for its namespace, the hint says how to get them."""
    if os.geteuid() != 0:
        pytest.skip("needs a user who is known to have no range: nobody")
    script = f"import os\nos.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n{BUILD}"
    place = tmp_path / "cache"
    for path in (place, tmp_path):
        os.chown(path, NOBODY, NOBODY)
    if not all(parent.stat().st_mode & 0o001 for parent in tmp_path.parents):
        # Pytest's own folders are closed to other users.
        for parent in tmp_path.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    finished = subprocess.run(
        [sys.executable, "-c", script, recipe],
        env={**os.environ, "HOME": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "/etc/subuid" in finished.stdout, finished.stdout + finished.stderr
    assert "or build as root" in finished.stdout
