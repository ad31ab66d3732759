"""One audit: plant canaries, run the payload in the bare process, then in every target, and judge.

The bare process always runs, asked for or not: it is the positive control of all others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.answer import LARGEST_ANSWER, Answer, MalformedAnswerError
from pybench.harness.audit.canaries import CANARIES
from pybench.harness.audit.canaries.base import Canary, CannotPlantError, Tokens
from pybench.harness.audit.canaries.place import Place
from pybench.harness.audit.controls import controlled, without_control
from pybench.harness.audit.model import (
    Audit,
    AuditedTarget,
    Beside,
    Judged,
    Outcome,
    Probe,
    Verdict,
    error,
    not_applicable,
)
from pybench.harness.audit.observation import AnyCanary, Observation, evidence
from pybench.harness.audit.payload import Payload, PythonPayload
from pybench.harness.audit.shell import parts as shell
from pybench.harness.audit.shell.script import ShellPayload
from pybench.harness.audit.subjects.base import NoPythonError, Subject, SubjectMaker
from pybench.harness.audit.subjects.process import ProcessMaker
from pybench.harness.errors import InstanceError, PybenchError

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.runner.interruption import Interruption
    from pybench.runtime.journal import Journal
    from pybench.vm_images import Image

_START_SECONDS: Final = 60.0
"""What a Python and the payload may take to start in an emulated guest, beside the probes' own time."""

_IMAGE_WITH_PYTHON: Final = "audit an image that has it, such as debian"
_NO_PYTHON: Final = f"the image has no python3, which this probe takes; {_IMAGE_WITH_PYTHON}"
_ATTEMPTS: Final = 3
"""How often a probe is asked at most while its answer is doubtful."""

Tell = Callable[[str, str], None]
"""Told the target and what is done with it."""


def _tell_nobody(_target: str, _what: str) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class _Ground:
    """What is planted, as the parameters of guest parts see it."""

    subject: Subject
    sibling: Subject | None
    planted: Mapping[str, Canary]
    rootfs: Path

    def canary(self, kind: type[AnyCanary]) -> AnyCanary:
        """The planted canary of a class."""
        found = self.planted[kind.name]
        if not isinstance(found, kind):
            raise TypeError(f"{kind.name} is not a {kind.__name__}")
        return found


@dataclass(slots=True)
class _Findings:
    """What came of one target."""

    answers: dict[str, Answer] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    beside: dict[Beside, object] = field(default_factory=dict)
    """What the host did meanwhile."""


class Session:
    """Plants once, then audits one target after the other; a context manager that removes what it planted.

    Args:
        journal: where everything that is made on the host is written down first.
        image: what the targets run.
        probes: the questions.
        tell: is told what happens.
        interruption: of the command line. Ctrl-C cuts a payload short, and never what starts or stops
            instances, plants canaries or removes them.
    """

    def __init__(
        self,
        journal: Journal,
        image: Image,
        probes: Sequence[Probe],
        tell: Tell = _tell_nobody,
        interruption: Interruption | None = None,
    ) -> None:
        self.journal = journal
        self.tokens = Tokens()
        self.place = Place(journal, self.tokens)
        self.unplanted: dict[str, str] = {}
        """Canaries that could not be planted, and why."""
        self._image = image
        self._probes = tuple(probes)
        self._tell = tell
        self._interruption = interruption
        self._planted: dict[str, Canary] = {}
        self._control: _Findings | None = None
        self._removal = ExitStack()

    def __enter__(self) -> Session:
        with ExitStack() as removal:
            removal.enter_context(self.place)
            wanted = {name for probe in self._probes for name in probe.canaries}
            for name in sorted(wanted):
                try:
                    self._planted[name] = removal.enter_context(CANARIES[name](self))
                except CannotPlantError as fault:
                    self.unplanted[name] = fault.message
            self._removal = removal.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._removal.close()

    def audit(self, makers: Sequence[SubjectMaker]) -> Audit:
        """Audit every target, the positive control first.

        Raises:
            HostError: this host cannot run a target.
            LeftoverError: something survived its removal.
        """
        control = next((maker for maker in makers if maker.kind == "process"), ProcessMaker())
        targets: list[AuditedTarget] = []
        judged: list[Judged] = []
        for maker in (control, *(maker for maker in makers if maker is not control)):
            began = time.monotonic()
            findings, qualifiers = self._audit(maker)
            if maker in makers:
                targets.append(AuditedTarget(maker.label, maker.kind, time.monotonic() - began, qualifiers))
                judged += self._judged(maker, findings)
        return Audit(self._image.name, tuple(targets), tuple(judged), self.unplanted)

    def _audit(self, maker: SubjectMaker) -> tuple[_Findings, Mapping[str, str]]:
        """Start what is needed of one target, ask, judge, and stop everything."""
        self._tell(maker.label, "starting")
        qualifiers: Mapping[str, str] = {}
        try:
            with maker.opened(self, self._image) as instances:
                subject = next(instances)
                qualifiers = subject.qualifiers
                sibling = next(instances) if any(probe.sibling for probe in self._probes) else None
                self._tell(maker.label, "probing")
                findings = self._examine(_Ground(subject, sibling, self._planted, self._image.rootfs))
        except InstanceError as fault:
            # It did not start, or died meanwhile: nothing is known, and that is said of every probe.
            reason = f"the target failed: {fault.message}"
            findings = _Findings(verdicts={probe.id: error(reason, *_log(fault)) for probe in self._probes})
        if maker.kind == "process":
            for probe in self._probes:
                found = findings.verdicts[probe.id]
                privileged = os.geteuid() == 0
                findings.verdicts[probe.id] = without_control(probe, found, privileged=privileged)
            self._control = findings
        self._tell(maker.label, "done")
        return findings, qualifiers

    def _examine(self, ground: _Ground) -> _Findings:
        findings = _Findings()
        for probe in self._probes:
            if missing := [self.unplanted[name] for name in probe.canaries if name in self.unplanted]:
                findings.verdicts[probe.id] = not_applicable(f"it could not be planted: {missing[0]}")
            elif probe.consumes and ground.subject.group is None and not ground.subject.own_kernel:
                findings.verdicts[probe.id] = not_applicable(
                    "nothing bounds it there, so that the probe would use up the host"
                )
        pending = [probe for probe in self._probes if probe.id not in findings.verdicts]
        for _ in range(_ATTEMPTS):
            self._question(pending, ground, findings)
            pending = [probe for probe in pending if _is_doubtful(probe, ground.subject, findings)]
        return findings

    def _question(self, probes: Sequence[Probe], ground: _Ground, findings: _Findings) -> None:
        """Ask some probes, and judge what is answered."""
        for probe in probes:
            findings.answers.pop(probe.id, None)
            findings.verdicts.pop(probe.id, None)
        findings.beside.clear()
        asked = [probe for probe in probes if probe.guest]
        if ground.subject.ports is None:
            takes_python = [probe.id for probe in asked if probe.id not in shell.PARTS]
            findings.verdicts |= dict.fromkeys(takes_python, not_applicable(_NO_PYTHON))
            asked = [probe for probe in asked if probe.id in shell.PARTS]
        # In two runs, so that what the host does beside some probes disturbs no others.
        alone = [probe for probe in asked if not _is_accompanied(probe)]
        accompanied = [probe for probe in asked if _is_accompanied(probe)]
        for each in (alone, accompanied):
            if each:
                self._ask(each, ground, findings)
        for probe in probes:
            if probe.id not in findings.verdicts:
                findings.verdicts[probe.id] = self._judge(probe, ground, findings)

    def _ask(self, asked: Sequence[Probe], ground: _Ground, findings: _Findings) -> None:
        """Run the payload: adds what it answered, and a verdict for each probe without an answer to judge."""
        with ExitStack() as stack:
            for probe in asked:
                if probe.beside is not None and probe.beside not in findings.beside:
                    findings.beside[probe.beside] = stack.enter_context(probe.beside(ground))
            self._run(ground, asked, findings)

    def _run(self, ground: _Ground, asked: Sequence[Probe], findings: _Findings) -> None:
        subject = ground.subject
        names, questions = [each.id for each in asked], [(each, each.parameters(ground)) for each in asked]
        language = ShellPayload if subject.ports is None else PythonPayload
        payload: Payload = language(self.tokens.shape, questions, shared=subject.shared)
        timeout = _START_SECONDS + sum(probe.seconds for probe in asked)
        try:
            with self._interruption.allowed() if self._interruption else nullcontext():
                output = subject.run(payload.interpreter, payload.script, timeout, LARGEST_ANSWER)
            answers, faults = payload.read(output)
        except NoPythonError as fault:
            reason = f"{fault.message}; {_IMAGE_WITH_PYTHON}"
            findings.verdicts |= dict.fromkeys(names, not_applicable(reason))
            return
        except InstanceError as fault:
            failed = error(f"the payload failed: {fault.message}", *_log(fault))
            findings.verdicts |= dict.fromkeys(names, failed)
            return
        findings.answers |= answers
        findings.verdicts |= {name: error(reason) for name, reason in faults.items()}
        for name, answer in answers.items():
            if answer.status != "done":
                findings.verdicts[name] = error(f"the guest's part failed: {evidence([answer.reason])[0]}")
            elif false := [token for token, _ in answer.seen if not self.tokens.was_made(token)]:
                findings.verdicts[name] = error("it saw a token that was never planted", *evidence(false))

    def _judge(self, probe: Probe, ground: _Ground, findings: _Findings) -> Verdict:
        if probe.sibling and (ground.sibling is None or ground.sibling.pid is None):
            return error("the sibling has ended")
        if ground.subject.pid is None:
            return error("the instance has ended")
        baseline = self._control.answers.get(probe.id) if self._control else None
        answer = findings.answers.get(probe.id) or Answer(probe=probe.id, status="done")
        beside = findings.beside.get(probe.beside) if probe.beside else None
        observation = Observation(
            answer, ground.subject, ground.sibling, self.place, self._planted, baseline, beside
        )
        try:
            return probe.judge(observation)
        except MalformedAnswerError as fault:
            return error(f"the payload's answer is not what was asked for: {fault}")
        except (OSError, PybenchError) as fault:
            return error(f"the host's part failed: {fault}")

    def _judged(self, maker: SubjectMaker, findings: _Findings) -> Iterator[Judged]:
        control = self._control.verdicts if self._control else {}
        for probe in self._probes:
            verdict = findings.verdicts[probe.id]
            if maker.kind != "process":
                verdict = controlled(probe, verdict, control.get(probe.id))
            answer = findings.answers.get(probe.id)
            seconds = answer.seconds if answer else 0.0
            yield Judged(probe, maker.label, maker.kind, verdict, seconds)


def _is_accompanied(probe: Probe) -> bool:
    """Whether it is asked beside what the host does or watches, or beside those for which it does."""
    return probe.beside is not None or probe.watches


def _is_doubtful(probe: Probe, subject: Subject, findings: _Findings) -> bool:
    """Whether it may have found nothing only because the host was busy.

    A leak is its own proof, however often it was looked for. That nothing was found where it is expected is
    none yet.
    """
    if not probe.guest or subject.pid is None:
        return False
    answer, outcome = findings.answers.get(probe.id), findings.verdicts[probe.id].outcome
    if answer is not None and answer.status == "late":
        return True
    return outcome is Outcome.ISOLATED and probe.expected.on(subject.kind) is Outcome.LEAK


def _log(fault: InstanceError) -> tuple[str, ...]:
    return evidence(fault.log.splitlines()[-4:]) if fault.log else ()
