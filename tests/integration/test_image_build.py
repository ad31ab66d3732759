"""The image `minimal`, built for real: reproducible, verified, and never half there."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until
from typer.testing import CliRunner

from pybench import vm_images
from pybench.harness.cli.images import app
from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import cache, compiler, elf, modules, packages

BUILD = (
    "from pybench import vm_images; vm_images.build('minimal', progress=lambda text: print(text, flush=True))"
)
TIMEOUT = 300
NOBODY = 65534
UNREACHABLE = 77


def ignore(_: str) -> None:
    """Progress that nobody wants to hear of."""


@pytest.fixture(scope="module")
def downloads() -> Path:
    """The user's own cache of packages: what is there already need not be fetched for a test."""
    directory = cache.downloads_directory()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def make_cache(folder: Path, downloads: Path) -> Path:
    """An empty cache of images that shares the cache of packages."""
    folder.mkdir()
    (folder / "downloads").symlink_to(downloads)
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of images, in use for this test."""
    folder = make_cache(tmp_path / "cache", downloads)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Path:
    """A cache with the image built in it; not to be changed."""
    folder = make_cache(tmp_path_factory.mktemp("built") / "cache", downloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.CACHE_VARIABLE, str(folder))
        vm_images.build("minimal", progress=ignore)
    return folder


@pytest.fixture
def image(built: Path, monkeypatch: pytest.MonkeyPatch) -> vm_images.Image:
    """The image in the shared cache."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(built))
    return vm_images.find("minimal")


@pytest.fixture
def own_image(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vm_images.Image:
    """A copy of the image in a cache of its own, free to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(built, folder, symlinks=True)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder))
    return vm_images.find("minimal")


def test_the_same_inputs_give_the_same_image(image: vm_images.Image, empty_cache: Path) -> None:
    """Built a second time, elsewhere and under another umask, every form has the same hash."""
    previous = os.umask(0o077)
    try:
        again = vm_images.build("minimal", progress=ignore)
    finally:
        os.umask(previous)
    assert again.folder.is_relative_to(empty_cache)
    assert again.content_hash == image.content_hash
    assert again.digests == image.digests


def test_the_root_filesystem_is_small_and_complete(image: vm_images.Image) -> None:
    """A few megabytes with shell, applets, accounts and mount points, readable by any user."""
    assert image.sizes["rootfs"] < 4 << 20
    assert subprocess.run([image.rootfs / "bin/busybox", "true"], check=False).returncode == 0
    assert (image.rootfs / "bin/sh").readlink() == Path("busybox")
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "var"):
        assert list((image.rootfs / name).iterdir()) == []
    for name in ("passwd", "group", "hosts", "hostname", "resolv.conf"):
        assert (image.rootfs / "etc" / name).stat().st_mode & 0o777 == 0o644
    assert (image.rootfs / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert image.folder.stat().st_mode & 0o777 == 0o755


def test_the_kernel_is_an_elf_that_boots_through_pvh(image: vm_images.Image) -> None:
    """The bzImage's payload was extracted, and it is the kernel that the manifest names."""
    assert elf.has_pvh_entry(image.kernel)
    assert f"Linux version {image.kernel_release} ".encode() in image.kernel.read_bytes()


def test_the_initramfs_holds_the_root_filesystem_and_the_guest_parts(image: vm_images.Image) -> None:
    """An independent reader finds the workload, then init and the device nodes in a second segment."""
    with image.initramfs.open("rb") as archive:
        listing = subprocess.run(
            [image.rootfs / "bin/busybox", "cpio", "-t"], stdin=archive, capture_output=True, check=True
        ).stdout.decode()
    # A reader stops at the first segment's end; the kernel goes on.
    assert "bin/workload" in listing.split()
    content = image.initramfs.read_bytes()
    end = content.index(b"TRAILER!!!")
    second = content[end:]
    for name in (
        b".pybench/init\0",
        b"dev/console\0",
        b"dev/null\0",
        *(b"dev/ttyS%d\0" % n for n in range(3)),
    ):
        assert name in second
    assert len(content) % 512 == 0


def test_nothing_is_built_twice(image: vm_images.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the image in place a build needs neither apt nor compiler, and well under a second's work."""
    monkeypatch.setenv("PATH", "/nonexistent")
    said: list[str] = []
    before = time.process_time()
    assert vm_images.build("minimal", progress=said.append) == image
    assert time.process_time() - before < 1
    assert said == []


def test_a_rebuild_replaces_the_image_and_leaves_nothing_else(own_image: vm_images.Image) -> None:
    """Asked to rebuild, the folder is a new one with the same content, and the old one is gone."""
    before = own_image.folder.stat().st_ino
    again = vm_images.build("minimal", rebuild=True, progress=ignore)
    assert again.content_hash == own_image.content_hash
    assert again.folder == own_image.folder
    assert again.folder.stat().st_ino != before
    assert {path.name for path in cache.images_directory().iterdir()} == {".minimal.lock", again.folder.name}


@pytest.mark.parametrize("part", ["rootfs/etc/hosts", "initramfs.cpio", "vmlinux"])
def test_a_changed_byte_is_detected(own_image: vm_images.Image, part: str) -> None:
    """Each form is covered by a hash, and the error names the command that repairs it."""
    damaged = own_image.folder / part
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        vm_images.verify(own_image)
    assert caught.value.hint == "pybench images build minimal"


def test_a_damaged_image_is_not_found_and_is_built_again(own_image: vm_images.Image) -> None:
    """A truncated kernel makes the image unusable until the next build, which says why it builds."""
    with own_image.kernel.open("r+b") as kernel:
        kernel.truncate(1000)
    with pytest.raises(InputError, match="damaged"):
        vm_images.find("minimal")
    assert vm_images.list_images() == []
    said: list[str] = []
    again = vm_images.build("minimal", progress=said.append)
    assert "damaged" in said[0]
    vm_images.verify(again)
    assert again.digests == own_image.digests


@pytest.mark.usefixtures("empty_cache")
def test_an_image_that_is_not_built_is_an_error_with_the_command() -> None:
    """An empty cache has no image, and says how to get one."""
    assert vm_images.list_images() == []
    with pytest.raises(InputError, match="is not built") as caught:
        vm_images.find("minimal")
    assert caught.value.hint == "pybench images build minimal"


@pytest.mark.usefixtures("empty_cache")
def test_an_interrupted_build_is_never_used() -> None:
    """A builder killed half-way leaves no image; the next build removes what it left."""
    with subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        for line in builder.stdout:
            if line.startswith("compiling"):
                break
        builder.send_signal(signal.SIGKILL)
    images = cache.images_directory()
    (leftover,) = images.glob(".minimal.building-*")
    with cache.locked(images, "minimal", ignore):
        assert vm_images.remove_leftovers() == []
    with pytest.raises(InputError, match="is not built"):
        vm_images.find("minimal")
    assert vm_images.list_images() == []
    vm_images.verify(vm_images.build("minimal", progress=ignore))
    assert not list(images.glob(".minimal.building-*"))
    leftover.mkdir()
    assert vm_images.remove_leftovers() == [leftover]


def test_parallel_builders_build_once(empty_cache: Path) -> None:
    """Of two builders at the same time one builds, and the other waits and takes the result."""
    command = [sys.executable, "-c", BUILD]
    environment = {**os.environ, cache.CACHE_VARIABLE: str(empty_cache)}
    # Both begin at the same time, when both are known to wait.
    with cache.locked(cache.images_directory(), "minimal", ignore):
        builders = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)
        ]
        for builder in builders:
            assert builder.stdout is not None
            assert "waiting for another process" in builder.stdout.readline()
    outputs = [builder.communicate(timeout=TIMEOUT)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sorted("compiling" in output for output in outputs) == [False, True]
    vm_images.verify(vm_images.find("minimal"))


@pytest.mark.usefixtures("empty_cache")
def test_a_full_disk_is_an_error_of_the_host_and_leaves_nothing(downloads: Path) -> None:
    """On a file system of a few megabytes the build fails with a hint, and its folder is empty again."""
    script = (
        "import os, sys\n"
        "from pybench import vm_images\n"
        "from pybench.runtime.errors import HostError\n"
        "try:\n"
        "    vm_images.build('minimal', progress=lambda text: None)\n"
        "except HostError as error:\n"
        "    print(error.hint)\n"
        "print(os.listdir(os.environ['PYBENCH_CACHE'] + '/images'))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        enter = (
            'mount -t tmpfs -o size=20m tmpfs "$PYBENCH_CACHE" && ln -s "$2" "$PYBENCH_CACHE/downloads" '
            '&& exec "$1" -c "$3"'
        )
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", enter, "sh"]
        finished = subprocess.run(
            [*command, sys.executable, str(downloads), script],
            env={**os.environ, cache.CACHE_VARIABLE: folder},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
    assert "free some space" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "['.minimal.lock']"


def test_a_cache_that_cannot_be_written_is_an_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the cache should be is reported with its path and the variable to set."""
    (tmp_path / "cache").write_text("not a directory")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(HostError, match="cannot use the cache") as caught:
        vm_images.build("minimal", progress=ignore)
    assert "PYBENCH_CACHE" in caught.value.hint


def test_a_source_that_does_not_compile_is_named_with_the_first_error(tmp_path: Path) -> None:
    """The message has the file and the compiler's first error with its line."""
    source = tmp_path / "broken.c"
    source.write_text("int main(void)\n{\n    return missing;\n}\n")
    with pytest.raises(InputError, match=r"broken\.c does not compile: broken\.c:3:12: error: .*missing"):
        compiler.compile_static([source], tmp_path / "program", tmp_path)
    assert list(tmp_path.iterdir()) == [source]


def test_a_missing_compiler_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without musl-gcc the hint is the command that installs it."""
    source = tmp_path / "fine.c"
    source.write_text("int main(void) { return 0; }\n")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="musl-gcc is missing") as caught:
        compiler.compile_static([source], tmp_path / "program", tmp_path)
    assert caught.value.hint == "apt-get install musl-tools"


def test_modules_come_with_their_dependencies_in_loading_order(
    tmp_path: Path, image: vm_images.Image
) -> None:
    """What a module needs is before it, what the kernel has built in is left out, a misspelling is told."""
    package = packages.require_package(
        f"linux-image-{image.kernel_release}", image.kernel_packages[f"linux-image-{image.kernel_release}"]
    )
    packages.unpack(packages.download(package, ignore), tmp_path)
    tree = tmp_path / "lib/modules" / image.kernel_release
    selected = modules.select_modules(["virtio-net", "ext4", "virtio_net"], tree, "kernel.modules")
    names = [module.name for module in selected]
    assert set(names) >= {"virtio_net", "net_failover", "failover", "virtio", "virtio_ring"}
    assert len(names) == len(set(names))
    assert modules.unavailable(["virtio-net", "ext4", "no_such"], tree) == ["no_such"]
    assert names.index("failover") < names.index("net_failover") < names.index("virtio_net")
    assert all(module.content.startswith(b"\x7fELF") for module in selected)
    with pytest.raises(InputError, match="virtoi_net") as caught:
        modules.select_modules(["virtoi_net"], tree, "kernel.modules")
    assert "virtio_net" in caught.value.hint


def test_an_ordinary_user_can_build(downloads: Path) -> None:
    """Without any privilege the build works, and gives an intact image."""
    if os.geteuid() != 0:
        pytest.skip("every other test of this file shows it when not run by root")
    # Privilege is dropped inside the process, because root's interpreter may be out of others' reach.
    script = (
        "import os, sys\n"
        "from pybench import vm_images\n"
        "from pybench.vm_images import builder\n"
        "vm_images.recipes()\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "if not os.access(vm_images.__path__[0], os.R_OK | os.X_OK):\n"
        f"    sys.exit({UNREACHABLE})\n"
        "vm_images.build('minimal', progress=print)\n"
        "vm_images.verify(vm_images.find('minimal'))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(downloads, Path(folder, "downloads"), ignore=shutil.ignore_patterns(".*"))
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        finished = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, cache.CACHE_VARIABLE: folder, "HOME": folder},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if finished.returncode == UNREACHABLE:
            pytest.skip("the package is installed where other users may not enter")
        assert finished.returncode == 0, finished.stderr
        owners = {path.lstat().st_uid for path in Path(folder, "images").rglob("*")}
        assert owners == {NOBODY}


class Workload:
    """The workload, run directly on the host, with its mark on a pipe."""

    def __init__(self, image: vm_images.Image, *arguments: str) -> None:
        self._marks, writer = os.pipe()
        self._process = subprocess.Popen(
            [image.rootfs / "bin/workload", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYBENCH_MARK_FD": str(writer)},
            pass_fds=[writer],
        )
        os.close(writer)

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._marks)

    def mark(self) -> bytes:
        """Everything written to the mark's pipe, up to its end."""
        data = b""
        while chunk := os.read(self._marks, 100):
            data += chunk
        return data

    def line(self) -> bytes:
        """The next line of standard output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing arrives on standard output for that long."""
        with selectors.DefaultSelector() as selector:
            assert self._process.stdout is not None
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return not selector.select(seconds)

    def handles(self, number: signal.Signals) -> bool:
        """Whether it has a handler for a signal by now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return bool(int(caught, 16) >> (number - 1) & 1)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status."""
        return self._process.wait(timeout)

    def complaint(self) -> bytes:
        """All of standard error, after the end."""
        return self._process.communicate()[1]


def test_the_workload_marks_its_first_instruction_and_gets_ready(image: vm_images.Image) -> None:
    """One line and the end on the mark's descriptor, then one line on standard output."""
    with Workload(image, "ready") as workload:
        assert workload.mark() == b"exec\n"
        assert workload.line() == b"ready\n"
        assert workload.is_silent(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [("ready",), ("ready", "--text", "started"), ("silent",)])
def test_the_workload_ends_at_once_when_asked(
    image: vm_images.Image, command: tuple[str, ...], number: signal.Signals
) -> None:
    """TERM and INT are answered with exit status 0."""
    with Workload(image, *command) as workload:
        assert workload.mark() == b"exec\n"
        if command[0] == "silent":
            # The handler is set just after the mark.
            wait_until(lambda: workload.handles(number))
            assert workload.is_silent(0.1)
        else:
            assert workload.line() == command[-1].encode() + b"\n"
        workload.signal(number)
        assert workload.wait() == 0


def test_the_stubborn_workload_ignores_the_request(image: vm_images.Image) -> None:
    """It gets ready and survives TERM and INT."""
    with Workload(image, "stubborn") as workload:
        assert workload.line() == b"ready\n"
        for number in (signal.SIGTERM, signal.SIGINT):
            workload.signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            workload.wait(0.3)


def test_the_flooding_workload_prints_without_end_and_can_be_stopped(image: vm_images.Image) -> None:
    """Thousands of lines arrive, and TERM ends it even while it is blocked in a write."""
    with Workload(image, "flood") as workload:
        assert all(workload.line().endswith(b"\n") for _ in range(5000))
        workload.signal(signal.SIGTERM)
        assert workload.wait() == 0


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_workload_exits_with_the_code_asked_for(image: vm_images.Image, code: int) -> None:
    """`exit CODE` marks its first instruction and ends."""
    with Workload(image, "exit", str(code)) as workload:
        assert workload.mark() == b"exec\n"
        assert workload.wait() == code


@pytest.mark.parametrize(
    "arguments",
    [(), ("dance",), ("exit",), ("exit", "256"), ("exit", "-1"), ("exit", "x"), ("ready", "--text")],
)
def test_the_workload_refuses_what_it_does_not_know(
    image: vm_images.Image, arguments: tuple[str, ...]
) -> None:
    """Anything else is answered with usage on standard error and status 64."""
    with Workload(image, *arguments) as workload:
        assert workload.wait() == 64
        assert workload.complaint().startswith(b"usage: workload")


def test_the_workload_ends_as_the_first_process_of_a_pid_namespace(image: vm_images.Image) -> None:
    """There the kernel drops signals without a handler; this one has handlers."""
    command = [
        "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child",
        str(image.rootfs / "bin/workload"), "ready",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert parent.wait(PATIENCE) == 0


def test_the_command_line_builds_lists_and_shows(image: vm_images.Image) -> None:
    """`build` says what it made, `list` and `show` tell it to people and to programs."""
    runner = CliRunner()
    built = runner.invoke(app, ["build", "minimal"])
    assert built.exit_code == 0
    assert image.content_hash[:12] in built.stdout
    record = json.loads(runner.invoke(app, ["build", "minimal", "--format", "json"]).stdout)
    text = runner.invoke(app, ["list"]).stdout
    for word in ("minimal", image.content_hash[:12], image.kernel_release, "initramfs", "current"):
        assert word in text
    assert json.loads(runner.invoke(app, ["list", "--format", "json"]).stdout) == [record]
    assert json.loads(runner.invoke(app, ["show", "minimal", "--format", "json"]).stdout) == record
    assert record["content_hash"] == image.content_hash
    assert record["current"] is True
    assert record["packages"]["busybox-static"] == image.packages["busybox-static"]
    shown = runner.invoke(app, ["show", "minimal"]).stdout
    for line in (f"packages.busybox-static: {image.packages['busybox-static']}", "marking: /bin/workload"):
        assert line in shown.splitlines()


def test_the_command_line_verifies(own_image: vm_images.Image) -> None:
    """`verify` passes over an intact image, and names a damaged one with the command that repairs it."""
    runner = CliRunner()
    assert runner.invoke(app, ["verify"]).stdout == f"minimal: intact, in {own_image.folder}\n"
    with own_image.initramfs.open("r+b") as archive:
        archive.write(b"!")
    damaged = runner.invoke(app, ["verify", "minimal"])
    assert "initramfs was changed after the build" in damaged.stdout
    assert isinstance(damaged.exception, InputError)
    assert damaged.exception.hint == "pybench images build minimal"
    (record,) = json.loads(runner.invoke(app, ["verify", "--format", "json"]).stdout)
    assert (record["name"], record["intact"]) == ("minimal", False)
    unknown = runner.invoke(app, ["verify", "debian"])
    assert "no image called debian is built" in str(unknown.exception)


def test_the_command_line_removes(own_image: vm_images.Image) -> None:
    """`rm --old` removes builds of earlier recipes alone, `rm` all; a second time there is nothing."""
    runner = CliRunner()
    earlier = own_image.folder.with_name("minimal-0123456789abcdef")
    assert "no image is named" in str(runner.invoke(app, ["rm"]).exception)
    for names in (["minimal"], []):
        shutil.copytree(own_image.folder, earlier, symlinks=True)
        assert runner.invoke(app, ["rm", "--old", *names]).stdout == f"removed {earlier}\n"
    assert "nothing was built from an earlier" in runner.invoke(app, ["rm", "--old"]).stdout
    assert vm_images.find("minimal") == own_image
    assert runner.invoke(app, ["rm", "minimal"]).stdout == f"removed {own_image.folder}\n"
    assert [path.name for path in cache.images_directory().iterdir()] == [".minimal.lock"]
    assert "no image called minimal is built" in str(runner.invoke(app, ["rm", "minimal"]).exception)


def test_the_list_has_one_row_for_each_image(own_image: vm_images.Image) -> None:
    """Older builds are counted, and shown on request; the damaged and those of no recipe are told apart."""
    runner = CliRunner()
    for name in ("minimal-0123456789abcdef", "other-0123456789abcdef", "minimal-fedcba9876543210"):
        folder = own_image.folder.with_name(name)
        shutil.copytree(own_image.folder, folder, symlinks=True)
        manifest = json.loads((folder / "manifest.json").read_text())
        changed = {**manifest, "name": name.rpartition("-")[0], "input_hash": name, "created": "2030-01-01"}
        (folder / "manifest.json").write_text(json.dumps(changed))
    (folder / "vmlinux").unlink()
    few = runner.invoke(app, ["list"])
    assert [line.split()[0] for line in few.stdout.splitlines()[1:]] == ["minimal", "other"]
    assert [line.split()[-1] for line in few.stdout.splitlines()[1:]] == ["current", "gone"]
    assert "1 older build" in few.stderr
    assert f"Damaged: {folder}" in few.stderr
    every = runner.invoke(app, ["list", "--all"])
    assert [line.split()[0] for line in every.stdout.splitlines()[1:]] == ["minimal", "minimal", "other"]
    assert "older" not in every.stderr
    removed = runner.invoke(app, ["rm", "--old"]).stdout
    assert [Path(line.split()[1]).name for line in removed.splitlines()] == [
        "minimal-0123456789abcdef",
        "minimal-fedcba9876543210",
    ]


@pytest.mark.usefixtures("empty_cache")
def test_listing_an_empty_cache_names_the_recipes() -> None:
    """Nothing is built: an empty list for programs, the names that can be built for people."""
    runner = CliRunner()
    assert json.loads(runner.invoke(app, ["list", "--format", "json"]).stdout) == []
    assert "minimal" in runner.invoke(app, ["list"]).output


@pytest.mark.parametrize(
    "arguments", [[verb, "--help"] for verb in ("build", "list", "show", "rm", "verify")] + [["--help"]]
)
def test_help_has_an_example(arguments: list[str]) -> None:
    """Every help text ends with a command that can be pasted."""
    assert "Example: pybench images" in CliRunner().invoke(app, arguments).stdout
