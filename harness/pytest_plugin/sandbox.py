"""One instance that tests run commands in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from pybench.harness.errors import HostError, InputError, InstanceError
from pybench.harness.runner.execution import find_images, host_for_itself
from pybench.harness.runner.preflight import check_host
from pybench.harness.scenario import load_scenario
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import HasCommands
from pybench.runtime.journal import open_journal
from pybench.runtime.leftovers import remove_leftovers
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.runner.execution import Tell
    from pybench.harness.targets.base import Completed

READY_TIMEOUT: Final = 120.0
STOP_TIMEOUT: Final = 10.0
COMMAND_TIMEOUT: Final = 600.0
_IDLE: Final = ("/bin/sh", "-c", "echo ready; exec /bin/sleep 2147483647")
_LONGEST_LOG: Final = 2000


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the fixture hands out: an idle instance, and how to run commands in it."""

    kind: str
    """Of the target: `container`, `vm`."""
    qualifiers: Mapping[str, str]
    """What must be said beside every figure, such as `accel=tcg`."""
    commands: HasCommands

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float = COMMAND_TIMEOUT,
        stdin: bytes = b"",
        check: bool = True,
    ) -> Completed:
        """Run a command in it to its end.

        Args:
            command: an absolute path inside the image, and arguments; no shell.
            timeout: seconds.
            stdin: its standard input.
            check: whether any exit code but 0 is an error.

        Raises:
            InstanceError: it could not be started, did not end in time, or failed.
        """
        done = self.commands.execute(command, timeout, stdin=stdin)
        if check and done.status:
            said = printable((done.stderr or done.stdout)[-_LONGEST_LOG:]).strip()
            raise InstanceError(f"{command[0]} in the {self.kind} ended with {done.status}: {said}")
        return done

    def copy_in(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Make a file in it, in a directory that exists, such as /tmp.

        Raises:
            InstanceError: it cannot be written.
        """
        self.commands.copy_in(path, content, mode)


@contextmanager
def opened_sandbox(
    kind: str, image: str, options: Mapping[str, Any], folder: Path, tell: Tell
) -> Iterator[Sandbox]:
    """Hold the host, start an idle instance, and end it when the tests of the module are over.

    A host that lacks what the target needs skips the tests with that reason; where CI is set, they fail.

    Raises:
        InputError: there is no such target, option or image, or no command can be run in such a target.
    """
    scenario = load_scenario(_scenario(kind, image, options, folder))
    (combination,) = scenario.combinations
    with host_for_itself(scenario, wait=True, tell=tell):
        for line in remove_leftovers():
            tell(line)
        with open_journal() as journal, ExitStack() as resources:
            try:
                check_host(scenario)
                images = find_images(scenario, tell)
                target = open_target(combination.target, TargetContext(journal, folder))
                resources.callback(target.cleanup)
                target.prepare(combination.workload, images[image])
            except HostError as error:
                if os.environ.get("CI"):
                    raise
                pytest.skip(f"{error.message}; {error.hint}" if error.hint else error.message)
            instance = target.launch(READY_TIMEOUT)
            resources.callback(instance.stop, STOP_TIMEOUT)
            if not isinstance(instance, HasCommands):
                raise InputError(f"sandbox: no command can be run in the target {kind}")
            yield Sandbox(kind, instance.qualifiers, instance)


def _scenario(kind: str, image: str, options: Mapping[str, Any], folder: Path) -> Path:
    """What is to run, as a scenario, so that options are checked and told as there."""
    path = folder / "sandbox.yaml"
    content = {
        "name": "sandbox",
        "workloads": {"sandbox": {"image": image, "command": _IDLE, "readiness": {"text": "ready"}}},
        "targets": {kind: {**options, "repetitions": 1}},
        "measure": ["startup"],
    }
    # JSON is YAML.
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
