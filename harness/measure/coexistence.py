"""Coexistence: one instance of each of several images at the same time, and what each says of itself."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.fields import Argument, ImageName
from pybench.harness.measure.base import ProcedureSettings, Reading
from pybench.harness.targets.base import HasCommands
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.targets.base import Instance

HOST_FILES: Final = (
    "/etc/os-release",
    "/etc/ld.so.cache",
    "/lib64/ld-linux-x86-64.so.2",
    "/var/lib/dpkg/status",
)
"""By which the host would notice that something was installed into it."""
COMMAND_SECONDS: Final = 60.0
LONGEST_ANSWER: Final = 200


class CoexistenceSettings(ProcedureSettings):
    """Options of the measurement of coexistence."""

    beside: Annotated[list[ImageName], Field(min_length=1, max_length=20)]
    """Images that the workload's command also runs in, at the same time."""
    tell: Annotated[list[Argument], Field(min_length=1, max_length=1000)]
    """A command that is run in each, and prints in a line what it finds there."""

    def images(self) -> tuple[str, ...]:
        """Those beside the workload's."""
        return tuple(self.beside)

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """A launch for each."""
        return (1 + len(self.beside)) * launch


def measure_coexistence(bench: Bench) -> None:
    """`coexistence.alive`, `.different` and `.host.changes`.

    While all instances live the same command is run in each, and its answers, told as qualifiers by the names
    of the images, are compared: whoever shared the others' files would give the same answer.

    Raises:
        InstanceError: one cannot be started, or gives no answer.
        InputError: an image is named twice.
    """
    options = bench.options(CoexistenceSettings)
    if len({bench.workload.image, *options.beside}) <= len(options.beside):
        raise InputError(
            "coexistence: an image is named twice", "`beside` names images that are all different"
        )
    before = host_state()
    running: dict[str, Instance] = {bench.workload.image: bench.launch()}
    for image in options.beside:
        workload = dataclasses.replace(bench.workload, image=image)
        running[image] = bench.launch(bench.open(workload))
    answers = {image: _answer(instance, options.tell) for image, instance in running.items()}
    alive = sum(not instance.ended for instance in running.values())
    changed = [name for name, state in host_state().items() if state != before[name]]
    said = {**answers, **({"changed": ", ".join(changed)} if changed else {})}
    record = functools.partial(Reading, channel="command", resolution=0.0, error=0.0, qualifiers=said)
    bench.record(
        record("coexistence.alive", "", float(alive)),
        record("coexistence.different", "", float(len(set(answers.values())))),
        record("coexistence.host.changes", "", float(len(changed))),
    )


def _answer(instance: Instance, command: list[str]) -> str:
    if not isinstance(instance, HasCommands):
        raise InstanceError("no command can be run on this target")
    done = instance.execute(command, COMMAND_SECONDS)
    text = printable(done.stdout[:LONGEST_ANSWER]).strip()
    if done.status != 0 or not text:
        problem = printable(done.stderr[:LONGEST_ANSWER]).strip()
        raise InstanceError(f"{command[0]} gave no answer (exit code {done.status})", log=problem)
    return " ".join(text.split())


def host_state() -> dict[str, str]:
    """A hash of each of the host's files that tell what is installed."""
    states = {}
    for name in HOST_FILES:
        try:
            states[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        except OSError as error:
            states[name] = error.strerror or str(error)
    return states
