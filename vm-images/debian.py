"""The base `debian`: a Debian or Ubuntu root filesystem, installed by mmdebstrap from apt's own sources."""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import HostError
from pybench.vm_images import commands, packages, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybench.vm_images.recipe import DebianEntry

_TOOL: Final = "mmdebstrap"
_TIMEOUT: Final = 1800.0
_UNPACK_TIMEOUT: Final = 300.0
_KEYRINGS: Final = {
    "Debian": ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg"),
    "Ubuntu": ("ubuntu-archive-keyring.gpg",),
}
"""Origins (apt-secure(8)) of archives that a root filesystem is made from, and no third party's; with the
names that their keyring has in one release or another."""
_KEYRING_FOLDER: Final = Path("/usr/share/keyrings")
_POCKETS: Final = ("", "-updates", "-security")
_MERGED_USR_HOOKS: Final = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
_FULL: Final = "No space left on device"
_STATUS: Final = "var/lib/dpkg/status"
_LARGEST_STATUS: Final = 64 << 20
# PEP 552: magic number, flags, then date and size of the source, or with other flags than zero its hash.
_BYTECODE_HEADER: Final = struct.Struct("<4sIII")
_CHECKED_HASH: Final = 3
_UNCHECKED_HASH: Final = 1


def install(
    entry: DebianEntry,
    names: Sequence[str],
    root: Path,
    scratch: Path,
    progress: Callable[[str], None],
) -> dict[str, str]:
    """Fill the empty directory `root`; returns package → version of everything that is in it.

    Root installs in a chroot, an ordinary user in a user namespace, for which mmdebstrap needs a range
    of user ids. Everything belongs to who builds, and there are no device nodes.

    Raises:
        HostError: a package, the tool, the network or disk space is missing.
    """
    suite = entry.suite or own_suite()
    sources = _sources(suite)
    for name in names:
        packages.require_package(name)
    progress(f"installing {suite} with {', '.join(names) or 'no packages'}, which takes a minute")
    with tempfile.TemporaryDirectory(prefix="install-", dir=scratch) as folder:
        archive = Path(folder, "root.tar")
        options = [f"--variant={entry.variant}", *([f"--include={','.join(names)}"] if names else [])]
        _bootstrap([*options, suite, "-", *sources], archive)
        # Owners are those inside a container or guest, where all is root's; dev is made there as well.
        command = ["tar", "--extract", f"--file={archive}", f"--directory={root}", "--no-same-owner"]
        command += ["--preserve-permissions", "--exclude=./dev/*"]
        commands.run(command, package="tar", timeout=_UNPACK_TIMEOUT)
    _check_bootstrapped(root)
    _settle_bytecode(root)
    return _installed(root)


def own_suite() -> str:
    """The code name of this machine's own distribution.

    Raises:
        HostError: it has none.
    """
    try:
        suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        suite = ""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", suite):
        raise HostError(
            "this machine's distribution has no code name", "name one in the recipe: debian.suite: bookworm"
        )
    return suite


def _sources(suite: str) -> list[str]:
    """Lines of sources.list(5): wherever apt on this machine gets the suite from.

    One that its sources do not offer is looked for in the archive of the machine's own suite.

    Raises:
        HostError: apt's lists know neither.
    """
    form = "$(REPO_URI)|$(RELEASE)|$(ORIGIN)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    components: dict[tuple[str, str, str], set[str]] = {}
    for line in commands.run(command, package="apt").splitlines():
        location, release, origin, component = [*line.split("|"), "", "", ""][:4]
        pocket = release.removeprefix(suite) if release.startswith(suite) else None
        if pocket in _POCKETS and origin in _KEYRINGS and component:
            components.setdefault((location, release, origin), set()).add(component)
    if not any(release == suite for _, release, _ in components) and suite != (own := own_suite()):
        return [line.replace(f" {own} ", f" {suite} ") for line in _sources(own) if f" {own} " in line]
    if not any(release == suite for _, release, _ in components):
        known = f"apt's sources on this machine do not offer the suite {suite}"
        raise HostError(known, "add it to /etc/apt/sources.list, then apt-get update")
    return [
        f"deb {_keyring_option(origin)}{location} {release} {' '.join(sorted(found))}"
        for (location, release, origin), found in sorted(components.items())
    ]


def _keyring_option(origin: str) -> str:
    """The option that names the distribution's keys: newer apts do not trust them for every archive."""
    for name in _KEYRINGS[origin]:
        if (_KEYRING_FOLDER / name).is_file():
            return f"[signed-by={_KEYRING_FOLDER / name}] "
    return ""


def _bootstrap(arguments: Sequence[str], archive: Path) -> None:
    """Have mmdebstrap write a root filesystem to `archive`, a new tar file."""
    if shutil.which(_TOOL) is None:
        raise HostError(f"{_TOOL} is missing", f"apt-get install {_TOOL}")
    variables = {"SOURCE_DATE_EPOCH": str(tree.SOURCE_DATE)}
    if os.geteuid() == 0:
        # Its mounts are in a namespace of their own, which goes away with it even when it is killed, and its
        # files beside the build, where the next one removes what a killed one leaves.
        command = ["unshare", "--mount", "--", _TOOL, "--mode=root"]
        variables["TMPDIR"] = str(archive.parent)
    else:
        # Runs with the ids of a namespace, which may not get into this user's folders: files are in /tmp.
        command = [_TOOL, "--mode=unshare"]
    command += ["--format=tar", "--aptopt=Acquire::Retries 2"]
    if _MERGED_USR_HOOKS.is_dir():
        command.append(f"--hook-directory={_MERGED_USR_HOOKS}")
    try:
        with archive.open("xb") as sink:
            commands.run(
                commands.tied([*command, *arguments]),
                package="util-linux",
                sink=sink,
                timeout=_TIMEOUT,
                variables=variables,
            )
    except commands.CommandError as error:
        raise _explained(error) from error


def _explained(error: commands.CommandError) -> HostError:
    output = error.output
    lines = [line for line in output.splitlines() if _FULL in line]
    lines += [line.removeprefix("E: ") for line in output.splitlines() if line.startswith("E: ")]
    reason = commands.printable(lines[0].strip()) if lines else error.message
    hint = error.hint or "check the network and the package lists: apt-get update"
    if "does not have a Release file" in output:
        hint = "name a suite that it has, or add where it is to /etc/apt/sources.list, then apt-get update"
    if "subuid" in output or "newuidmap" in output:
        hint = "apt-get install uidmap; a range for you in /etc/subuid and /etc/subgid; or build as root"
    return HostError(f"{_TOOL} cannot install the root filesystem: {reason}", hint)


def _check_bootstrapped(root: Path) -> None:
    if not (root / _STATUS).is_file():
        raise HostError(f"{_TOOL} made no root filesystem: {_STATUS} is missing in it")


def _installed(root: Path) -> dict[str, str]:
    """Package → version, by dpkg's own record of the new root filesystem."""
    with (root / _STATUS).open(encoding="utf-8", errors="replace") as status:
        text = status.read(_LARGEST_STATUS)
    versions = {}
    for record in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): *(\S+)$", record, re.MULTILINE))
        if {"Package", "Version"} <= fields.keys():
            versions[fields["Package"]] = fields["Version"]
    return versions


def _settle_bytecode(root: Path) -> None:
    """Have Python take its bytecode as it is: the sources get another date, but never change.

    Bytecode that names a date gets the new one. Where it names its source's hash, which is the rule under
    SOURCE_DATE_EPOCH, every import would read and hash the source; it is marked as not to be checked.
    """
    for path in root.glob("usr/lib/python3*/**/*.pyc"):
        content = bytearray(path.read_bytes())
        magic, flags, date, size = _BYTECODE_HEADER.unpack_from(content)
        if flags == 0:
            date = tree.SOURCE_DATE
        elif flags == _CHECKED_HASH:
            flags = _UNCHECKED_HASH
        _BYTECODE_HEADER.pack_into(content, 0, magic, flags, date, size)
        path.write_bytes(content)
