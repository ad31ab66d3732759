"""The audit on the real kernel: every probe fires where it must and nowhere else, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.harness.audit import payload
from pybench.harness.audit.canaries.base import Planting
from pybench.harness.audit.catalogue import catalogue, choose, find
from pybench.harness.audit.model import KINDS, Audit, Kind, Outcome, Probe, Verdict
from pybench.harness.audit.session import Session
from pybench.harness.audit.shell.parts import PARTS
from pybench.harness.audit.subjects.base import SubjectMaker
from pybench.harness.audit.subjects.container import ContainerMaker
from pybench.harness.audit.subjects.machine import MachineMaker
from pybench.harness.audit.subjects.process import ProcessMaker, ProcessSubject
from pybench.harness.audit.subjects.target import TargetMaker
from pybench.harness.cli import main
from pybench.harness.errors import InstanceError
from pybench.runtime.container.defaults import own_capabilities
from pybench.runtime.container.profiles import PROFILES
from pybench.runtime.journal import Journal, open_journal
from pybench.runtime.leftovers import remove_leftovers
from pybench.vm_images import Image, build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant every canary")
UNCONFINED: tuple[Kind, ...] = ("process", "chroot", "privileged")
UNPROVABLE = {
    *(() if own_capabilities("CapEff") >> 24 & 1 else ("E4",)),
    "R3",
}
"""E4 takes CAP_SYS_RESOURCE, which root may lack in a container of others. R3 takes swap, which another test
may give to the host meanwhile."""


@pytest.fixture(scope="module")
def debian() -> Image:
    """An image with python3."""
    return build("debian", progress=lambda _text: None)


@dataclass(slots=True)
class Traces:
    """What was seen of the audit that all tests share."""

    before: list[str] = field(default_factory=list)
    during: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    entries: tuple[object, ...] = ()


@pytest.fixture(scope="module")
def traces() -> Traces:
    """Filled by the audit."""
    return Traces(settings=host_settings())


@pytest.fixture(scope="module")
def found(debian: Image, traces: Traces) -> Audit:
    """One audit of everything but virtual machines, for all tests of this module."""
    with open_journal() as journal:
        with Session(journal, debian, catalogue()) as opened:
            prefix = opened.tokens.shape.partition("[")[0]
            traces.during = host_traces(prefix)
            makers: list[SubjectMaker] = [
                ProcessMaker(),
                TargetMaker("chroot", "chroot", shared=True, address="127.0.0.1"),
                *(ContainerMaker(profile) for profile in PROFILES),
            ]
            result = opened.audit(makers)
        traces.entries = journal.entries
    traces.after = host_traces(prefix)
    return result


def host_traces(prefix: str) -> list[str]:
    """Whatever on the host has a token of an audit in it."""
    found = []
    for table in ("/proc/self/mountinfo", "/proc/net/unix", "/proc/keys", "/proc/sysvipc/shm"):
        found += [line for line in Path(table).read_text(errors="replace").splitlines() if prefix in line]
    for folder in ("/tmp", "/dev/shm", "/dev/mqueue", "/run/pybench"):
        if Path(folder).is_dir():
            found += [str(path) for path in Path(folder).iterdir() if prefix in path.name]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [str(path)] * (prefix.encode() in path.read_bytes())
    return found


def host_settings() -> list[str]:
    """Settings of the host that a guest may try to change."""
    return [f"{path} {Path(path).read_text()}" for path in SETTINGS if Path(path).exists()]


SETTINGS = tuple(
    f"/proc/sys/{name}"
    for name in (
        "fs/suid_dumpable",
        "kernel/core_pattern",
        "kernel/domainname",
        "kernel/hostname",
        "kernel/modprobe",
        "kernel/panic",
        "kernel/sysrq",
        "net/ipv4/conf/all/route_localnet",
        "net/ipv4/ip_forward",
        "vm/overcommit_memory",
    )
)


def verdict(found: Audit, probe: Probe, kind: Kind) -> Verdict:
    """What a probe came to on one class of target."""
    return next(each.verdict for each in found.judged if each.probe is probe and each.kind == kind)


def test_every_probe_fires_where_isolation_is_missing(found: Audit) -> None:
    """Each leaks, with evidence, on every class where the catalogue says so."""
    silent = {
        (probe.id, kind): came
        for probe in provable(found)
        for kind in UNCONFINED
        if probe.expected.on(kind) is Outcome.LEAK
        and not ((came := verdict(found, probe, kind)).is_leak and came.evidence)
    }
    assert silent == {}
    fired = {each.probe.id for each in found.judged if each.verdict.is_leak}
    leaky = {probe.id for probe in provable(found) if Outcome.LEAK in map(probe.expected.on, UNCONFINED)}
    assert leaky <= fired


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_every_probe_comes_out_as_the_catalogue_says(found: Audit, kind: Kind) -> None:
    """Leaks where isolation is missing, and none where it is complete."""
    unlike = {
        probe.id: came
        for probe in provable(found)
        if (came := verdict(found, probe, kind)).outcome is not probe.expected.on(kind)
    }
    assert unlike == {}


def provable(found: Audit) -> list[Probe]:
    """All probes but those whose positive control cannot fire on this host, which is said of every target."""
    probes = []
    for probe in catalogue():
        if probe.id == "R3":
            continue
        control = verdict(found, probe, "process")
        if control.outcome is Outcome.NOT_APPLICABLE and probe.expected.on("process") is Outcome.LEAK:
            assert probe.id in UNPROVABLE, control
            assert verdict(found, probe, "container").outcome is Outcome.NOT_APPLICABLE
        else:
            probes.append(probe)
    return probes


def test_a_virtual_machine_is_as_expected(journal: Journal, debian: Image) -> None:
    """No leak above low severity, and every verdict as the catalogue says, to the guest's own root."""
    with Session(journal, debian, catalogue()) as opened:
        judged = opened.audit([MachineMaker()]).judged
    unlike = [each for each in judged if not each.is_expected and each.probe.id not in UNPROVABLE]
    assert [(each.probe.id, each.verdict) for each in unlike] == []
    assert {each.probe.severity for each in judged if each.verdict.is_leak} <= {"low"}


def test_the_container_holds_what_it_promises(found: Audit) -> None:
    """By default no leak of high or critical severity and at most three medium ones; strict has none."""
    leaks = [(each.kind, each.probe.severity) for each in found.judged if each.verdict.is_leak]
    assert not {("container", "critical"), ("container", "high")} & set(leaks)
    assert leaks.count(("container", "medium")) <= 3
    assert {severity for kind, severity in leaks if kind == "strict"} <= {"low"}


def test_nothing_is_left_on_the_host(found: Audit, traces: Traces) -> None:
    """Canaries are there during the audit, and afterwards no mount, socket, file, key or process of it."""
    assert found.unplanted == {}
    assert len(traces.during) > 5
    assert traces.after == []
    assert traces.entries == ()
    assert host_settings() == traces.settings


class _Payload(ProcessSubject):
    """A bare process whose payload is another one than was sent."""

    output: bytes | Exception = b""

    def run(
        self,
        interpreter: Sequence[str],  # noqa: ARG002 - nothing is run
        script: bytes,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
        maximum: int,
    ) -> bytes:
        if isinstance(self.output, Exception):
            raise self.output
        return self.output[:maximum]


class _PayloadMaker(ProcessMaker):
    """Makes them."""

    label = "container"
    kind: Kind = "container"

    def __init__(self, output: bytes | Exception) -> None:
        self._output = output

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[_Payload]]:
        with super().opened(planting, image) as instances:

            def changed() -> Iterator[_Payload]:
                for instance in instances:
                    instance.__class__ = _Payload
                    assert isinstance(instance, _Payload)
                    instance.output = self._output
                    yield instance

            yield changed()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (b"\0" * (1 << 20), "no answer"),
        (b'{"probe": "N3", "status": "done"}\n' * 100_000, "answered twice"),
        (b'{"probe": "N3", "status": "done", "facts": {"fault": 7}}\n', "not what was asked for"),
        (b'{"probe": "N3", "status": "done", "facts": {}}\n', "not what was asked for"),
        (InstanceError("it did not end within 9 s"), "the payload failed"),
    ],
)
def test_a_hostile_payload_is_an_error_and_harms_nobody(
    journal: Journal, debian: Image, output: bytes | Exception, reason: str
) -> None:
    """Whatever it prints or however long it hangs, its probe is an error, and the host goes on."""
    with Session(journal, debian, choose(("N3",))) as opened:
        (judged,) = opened.audit([_PayloadMaker(output)]).judged
    assert judged.verdict.outcome is Outcome.ERROR
    assert reason in judged.verdict.reason


def test_a_token_that_was_never_planted_is_an_error(journal: Journal, debian: Image) -> None:
    """Who claims to have seen what nobody planted is not believed in anything."""
    with Session(journal, debian, choose(("P1",))) as opened:
        false = opened.tokens.shape.replace("[0-9a-f]{24}", "0" * 24)
        line = f'{{"probe": "P1", "status": "done", "seen": [["{false}", "/proc/1/cmdline"]]}}\n'
        (judged,) = opened.audit([_PayloadMaker(line.encode())]).judged
    assert judged.verdict.outcome is Outcome.ERROR
    assert "never planted" in judged.verdict.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "its time was over"),
        ("os._exit(3)", "it ended with status"),
        ("os.kill(os.getpid(), 9)", "it ended with status"),
        ("return {'text': 'x' * 1000000}", "too long an answer"),
        ("raise RuntimeError('by itself')", "by itself"),
        ("os.fork() and os._exit(0); time.sleep(60)", "its time was over"),
    ],
)
def test_a_part_that_crashes_or_hangs_is_an_error_for_its_probe_alone(
    journal: Journal, debian: Image, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    """The probes before and after it are judged as ever."""
    real = payload.script
    broken = f"def _broken(given, seen):\n    {body}\nPARTS['P2'] = _broken\n"

    def script(shape: str, asked: list[tuple[Probe, object]], *, shared: bool) -> bytes:
        text = real(shape, asked, shared=shared)  # type: ignore[arg-type]
        head, separator, request = text.rpartition(b"\n\nmain(")
        # The others keep their time, of which a busy host may need much.
        request = re.sub(rb'("id": "P2",.*?"seconds": )[0-9.]+', rb"\g<1>1.0", request)
        return head + b"\n" + broken.encode() + separator + request

    monkeypatch.setattr(payload, "script", script)
    with Session(journal, debian, choose(("P1", "P2", "P3"))) as opened:
        verdicts = {each.probe.id: each.verdict for each in opened.audit([ProcessMaker()]).judged}
    assert verdicts["P1"].is_leak
    assert verdicts["P3"].is_leak
    assert verdicts["P2"].outcome is Outcome.ERROR
    assert reason in verdicts["P2"].reason


def test_a_probe_that_was_held_up_is_asked_again(
    journal: Journal, debian: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That nothing was found where something is expected is not believed at once; a leak is, however late."""
    real, asked = payload.script, tmp_path / "asked"
    slow = f"""
def _held_up(given, seen, real=PARTS['P2']):
    with open({str(asked)!r}, 'a') as file:
        file.write('.')
        if file.tell() == 1:
            return {{'fault': 'ESRCH', 'own': 1, 'last': 1}}
    return real(given, seen)
PARTS['P2'] = _held_up
"""

    def script(shape: str, asked: list[tuple[Probe, object]], *, shared: bool) -> bytes:
        head, separator, request = real(shape, asked, shared=shared).rpartition(b"\n\nmain(")  # type: ignore[arg-type]
        return head + slow.encode() + separator + request

    monkeypatch.setattr(payload, "script", script)
    with Session(journal, debian, choose(("P2", "P3"))) as opened:
        verdicts = {each.probe.id: each.verdict for each in opened.audit([ProcessMaker()]).judged}
    assert verdicts["P2"].is_leak
    assert verdicts["P3"].is_leak
    assert asked.read_text() == ".."


_DIES = """
import os
from pybench.harness.audit.catalogue import catalogue
from pybench.harness.audit.session import Session
from pybench.runtime.journal import open_journal
with open_journal() as journal, Session(journal, None, catalogue()) as session:
    print(session.place.path, flush=True)
    os._exit(9)
"""


def test_what_a_killed_audit_has_planted_is_removed() -> None:
    """The next start, or `pybench clean`, unmounts its directory and ends its processes."""
    words = [sys.executable, "-c", _DIES]
    died = subprocess.run(words, check=False, capture_output=True, text=True)
    place = Path(died.stdout.strip())
    assert place.is_mount()
    done = list(remove_leftovers())
    assert any(str(place) in line for line in done)
    for kind in ("segment", "semaphore", "queue", "posix-queue"):
        assert any(line.startswith(f"removed {kind} ") for line in done)
    assert not place.exists()
    prefix, patience = place.name.removeprefix("audit-")[:13], time.monotonic() + PATIENCE
    # The kernel collects the keys of a process that has died a little later.
    while host_traces(prefix) and time.monotonic() < patience:
        time.sleep(0.05)
    assert host_traces(prefix) == []


def test_an_image_without_python_is_asked_by_its_shell(journal: Journal, image: Image) -> None:
    """What a shell can find out, and what the host answers alone, comes out as ever; the rest is n/a."""
    shell = [find(name) for name in PARTS]
    asked = [*shell, *choose(("U2", "I3"))]
    makers: list[SubjectMaker] = [
        TargetMaker("chroot", "chroot", shared=True, address="127.0.0.1"),
        *(ContainerMaker(profile) for profile in PROFILES),
    ]
    with Session(journal, image, asked) as opened:
        judged = opened.audit(makers).judged
    assert len(shell) >= 12
    reasons = [each.verdict.reason for each in judged if each.probe.id == "I3"]
    assert all("no python3" in reason and "debian" in reason for reason in reasons)
    unlike = {
        (each.target, each.probe.id): each.verdict
        for each in judged
        if each.probe.id != "I3" and not each.is_expected
    }
    assert unlike == {}


SCENARIO = """
name: small
workloads: {audit: {image: debian, command: [/usr/bin/python3], readiness: {level: exec}}}
targets: {process: {repetitions: 1}, container: {repetitions: 1}}
measure: {isolation: {probes: [P1, C5]}}
"""


def test_a_scenario_stores_verdicts(debian: Image, tmp_path: Path) -> None:
    """`pybench run` gives the same verdicts as samples, and they are compared as audits are."""
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    written, results = str(tmp_path / "run.json"), str(tmp_path / "results")
    words = ["run", str(path), "--results", results, "--json", written, "--no-report", "--wait"]
    assert debian.name == "debian"
    assert main.run(words) == 0
    samples = json.loads(Path(written).read_text(encoding="utf-8"))["samples"]
    values = {(each["target"], each["metric"]): each["value"] for each in samples}
    assert values["process", "isolation.P1"] == 2
    assert values["container", "isolation.P1"] == 0
    assert values["container", "isolation.C5"] == 1
    assert values["container", "isolation.leak-index"] == 0
    assert {each["qualifiers"]["verdict"] for each in samples if each["metric"] == "isolation.P1"} == {
        "leak",
        "isolated",
    }
    assert main.run(["audit", "compare", "latest", "latest", "--results", results]) == 0
