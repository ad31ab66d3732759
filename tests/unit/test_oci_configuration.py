"""What an image's configuration means, and who its user is."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pybench.runtime.container.image import ImageConfiguration, Platform, User, resolve_user
from pybench.runtime.container.image.configuration import parse_configuration
from pybench.runtime.errors import InputError

LINUX = Platform("linux", "amd64")


def parse(config: Any, **more: Any) -> ImageConfiguration:
    """Parse a configuration with this `config` object."""
    document = {"os": "linux", "architecture": "amd64", "config": config, **more}
    return parse_configuration(json.dumps(document).encode(), "file")


def test_every_value_is_read() -> None:
    """The names are those of the specification; ports and volumes become sorted lists."""
    found = parse(
        {
            "Env": ["PATH=/bin", "EMPTY="],
            "Entrypoint": ["/init"],
            "Cmd": ["serve"],
            "User": "app:web",
            "WorkingDir": "/srv",
            "ExposedPorts": {"443": {}, "53/udp": {}, "8000-8010/tcp": {}},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGQUIT",
            "Labels": {"a": "b"},
        },
        rootfs={"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
    )
    assert (found.env, found.entrypoint, found.cmd) == (("PATH=/bin", "EMPTY="), ("/init",), ("serve",))
    assert (found.user, found.working_dir, found.volumes) == ("app:web", "/srv", ("/data",))
    assert found.exposed_ports == ("443", "53/udp", "8000-8010/tcp")
    assert (found.stop_signal_number, found.labels) == (signal.SIGQUIT, {"a": "b"})
    assert (found.platform, len(found.layers)) == (LINUX, 1)


def test_absent_and_null_are_the_same() -> None:
    """Docker writes null for every list that is empty."""
    empty = ImageConfiguration(LINUX)
    assert parse({"Env": None, "Cmd": None, "Entrypoint": None, "Labels": None, "User": None}) == empty
    assert parse(None) == empty
    assert empty.stop_signal_number == signal.SIGTERM


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config: expected an object, found a list"),
        ({"Env": "PATH=/bin"}, "config: Env: expected a list, found a string"),
        ({"Env": ["PATH"]}, "config: Env: 'PATH' is not NAME=value"),
        ({"Env": ["=x"]}, "config: Env: '=x' is not NAME=value"),
        ({"Env": [1]}, r"config: Env\[0\]: expected a string, found 1"),
        ({"Cmd": ["a\0b"]}, r"config: Cmd\[0\]: a zero byte"),
        ({"Cmd": ["\ud800"]}, r"config: Cmd\[0\]: no Unicode text"),
        ({"User": {}}, "config: User: expected a string, found an object"),
        ({"WorkingDir": "srv"}, "config: WorkingDir: 'srv' is not absolute"),
        ({"ExposedPorts": {"0": {}}}, "config: ExposedPorts: '0' is no port"),
        ({"ExposedPorts": {"99999/tcp": {}}}, "config: ExposedPorts: '99999/tcp' is no port"),
        ({"ExposedPorts": {"80-70": {}}}, "config: ExposedPorts: '80-70' is no port"),
        ({"ExposedPorts": {"http": {}}}, "config: ExposedPorts: 'http' is no port"),
        ({"StopSignal": "SIGNONE"}, "config: the image's StopSignal 'SIGNONE' is no signal"),
        ({"Labels": {"a": 1}}, "config: Labels: a: expected a string, found 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(config: Any, message: str) -> None:
    """The error names the file and the key."""
    with pytest.raises(InputError, match=f"^file: {message}"):
        parse(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "expected an object"),
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"os": "linux"}', "architecture is missing"),
        (b'{"os": "linux", "architecture": "amd64", "rootfs": {"type": "other"}}', "is not “layers”"),
        (b'{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["md5:0"]}}', r"diff_ids\[0\]"),
    ],
)
def test_what_is_no_configuration_is_refused(content: bytes, message: str) -> None:
    """Malformed documents end in an error that names the file."""
    with pytest.raises(InputError, match=f"^file.*{message}"):
        parse_configuration(content, "file")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "arguments", "command"),
    [
        ([], ["sh"], [], ["sh"]),
        ([], ["sh"], ["ls", "-l"], ["ls", "-l"]),
        (["/init"], ["serve"], [], ["/init", "serve"]),
        (["/init"], ["serve"], ["help"], ["/init", "help"]),
        (["/init"], [], [], ["/init"]),
    ],
)
def test_arguments_replace_cmd_and_never_entrypoint(
    entrypoint: list[str], cmd: list[str], arguments: list[str], command: list[str]
) -> None:
    """Entrypoint comes first; Cmd is what it gets when nothing else is asked for."""
    configuration = ImageConfiguration(LINUX, entrypoint=tuple(entrypoint), cmd=tuple(cmd))
    assert configuration.command(arguments) == tuple(command)


def test_an_image_without_a_command_needs_one() -> None:
    """There is nothing to run otherwise."""
    with pytest.raises(InputError, match="neither Entrypoint nor Cmd"):
        ImageConfiguration(LINUX).command()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("int", 2),
        ("9", 9),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals_have_several_spellings(text: str, number: int) -> None:
    """With and without SIG, as a number, and relative to the real-time signals."""
    assert ImageConfiguration(LINUX, stop_signal=text).stop_signal_number == number


@pytest.mark.parametrize("text", ["0", "65", "-1", "RTMAX+1", "²", "DFL"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    """Numbers that the kernel does not have, and names that only look like signals."""
    with pytest.raises(InputError, match="is no signal"):
        _ = ImageConfiguration(LINUX, stop_signal=text).stop_signal_number


USERS = """\
# a comment
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/srv:/bin/sh
1000:x:7:7::/:/bin/sh
broken
far:x:99999999999:0::/:
"""
GROUPS = "root:x:0:\napp:x:1001:\nweb:x:33:app,other\nlog:x:4:app\nbad:x:nine:app\n"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system with users and groups."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(USERS)
    (tmp_path / "etc/group").write_text(GROUPS)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (), "/root")),
        ("app", User(1000, 1001, (4, 33), "/srv")),
        ("1000", User(1000, 1001, (4, 33), "/srv")),
        ("app:web", User(1000, 33, (), "/srv")),
        ("app:0", User(1000, 0, (), "/srv")),
        ("4242", User(4242, 0, (), "/")),
        ("4242:4243", User(4242, 4243, (), "/")),
        (":web", User(0, 33, (), "/root")),
    ],
)
def test_users_are_those_of_the_image(rootfs: Path, text: str, user: User) -> None:
    """A number is always a uid; a group that is named replaces all others."""
    assert resolve_user([rootfs], text) == user


@pytest.mark.parametrize(
    "text", ["nobody", "app:nogroup", "99999999999", "-1", "app:99999999999", "far", "app:bad"]
)
def test_a_user_that_cannot_be_is_refused(rootfs: Path, text: str) -> None:
    """Unknown names and numbers that no kernel accepts."""
    with pytest.raises(InputError, match=text.rpartition(":")[2]):
        resolve_user([rootfs], text)


def test_users_are_looked_up_through_all_layers(
    rootfs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The topmost file counts; a link is followed within the image."""
    upper = tmp_path_factory.mktemp("upper")
    (upper / "etc").mkdir()
    (upper / "etc/passwd").symlink_to("/../usr/lib/users")
    (upper / "usr/lib").mkdir(parents=True)
    (upper / "usr/lib/users").write_text("up:x:5:6::/up:/bin/sh\n")
    assert resolve_user([upper, rootfs], "up:web") == User(5, 33, (), "/up")
    with pytest.raises(InputError, match="no user 'app'"):
        resolve_user([upper, rootfs], "app")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd", "passwd"])
def test_a_link_never_leads_out_of_the_image(tmp_path: Path, target: str) -> None:
    """The host's own /etc/passwd knows a user that the image does not."""
    host = Path("/etc/passwd").read_text(encoding="utf-8").split(":")[0]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to(target)
    with pytest.raises(InputError, match=f"no user '{host}'"):
        resolve_user([tmp_path], host)


def test_a_file_of_users_is_bounded(rootfs: Path) -> None:
    """Two megabytes of users are no honest image."""
    (rootfs / "etc/passwd").write_text(USERS * 10_000)
    with pytest.raises(InputError, match="/etc/passwd of the image has more than"):
        resolve_user([rootfs], "app")


def test_numbers_need_no_files(tmp_path: Path) -> None:
    """An image with one static program has no /etc."""
    assert resolve_user([tmp_path], "7:8") == User(7, 8, ())
    assert resolve_user([], "") == User(0, 0, ())
