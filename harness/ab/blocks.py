"""Two programs measured in alternation: short runs of each, one after the other, collected as one run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import HostError, InputError
from pybench.harness.export.archive import read_archive
from pybench.harness.looks import LOOKS
from pybench.harness.runner.interruption import Interruption
from pybench.harness.runner.lock import LOCK_VARIABLE
from pybench.harness.scenario.language import FEWEST_FOR_INTERVAL
from pybench.harness.store import timestamp
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pybench.harness.ab.revisions import Checkout
    from pybench.harness.export.archive import ArchivedRun
    from pybench.harness.model import Run, RunStatus, Sample, Scenario
    from pybench.harness.runner.execution import Tell
    from pybench.harness.store import Recorder

BLOCKS: Final = 10
"""Times that each side is started anew: enough for what one start happens to be like to average out."""
_FIXED_NUMBER: Final = ("schedule.stop.precision=0.0001%", f"schedule.stop.at_least={FEWEST_FOR_INTERVAL}")
"""A block is too short for a look at its precision, so that is asked for which no median reaches."""
_ALL_FAILED: Final = 1
_INTERRUPTED: Final = 130
_LONGEST_COMPLAINT: Final = 2000
_OWN_VARIABLES: Final = ("PYBENCH_STORE",)

Block = Mapping[str, int]
"""Target → repetitions."""


def blocks(scenario: Scenario) -> list[Block]:
    """The repetitions of every target, spread as evenly as they can be; no block is empty."""
    planned = {target.name: target.repetitions for target in scenario.targets}
    shortest = 1 if scenario.schedule.stop.precision is None else FEWEST_FOR_INTERVAL
    number = max(1, min(BLOCKS, max(planned.values()) // shortest))
    return [
        {
            name: share
            for name, repetitions in planned.items()
            if (share := (at + 1) * repetitions // number - at * repetitions // number)
        }
        for at in range(number)
    ]


@dataclass(slots=True)
class Collected:
    """Numbers the launches of all blocks through."""

    launches: int = 0
    repetitions: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)

    def add(self, samples: Sequence[Sample], label: str) -> list[Sample]:
        """The samples of one more block of a side, as those of the whole run."""
        found = []
        most: Counter[tuple[str, str, str, bool]] = Counter()
        for sample in samples:
            key = (f"{sample.target}.{label}", sample.workload, str(dict(sample.parameters)), sample.warmup)
            most[key] = max(most[key], sample.repetition + 1)
            found.append(
                replace(
                    sample,
                    target=key[0],
                    repetition=self.repetitions[key] + sample.repetition,
                    order=self.launches + sample.order,
                    qualifiers={name: said for name, said in sample.qualifiers.items() if name != LOOKS},
                )
            )
        self.repetitions.update(most)
        self.launches += max((sample.order + 1 for sample in samples), default=0)
        return found


def carry_out(
    sides: Sequence[tuple[Checkout, Scenario]],
    settings: Sequence[str],
    store: Recorder,
    run: Run,
    tell: Tell,
) -> RunStatus:
    """Record a run of alternating blocks, of which every other round begins with the other side.

    Args:
        sides: both, each with the scenario as it is there.
        settings: `key=value` texts for both.
        store: where the samples go, after each block.
        run: what it is recorded as.
        tell: is told of each block.

    Returns:
        How it ended; interrupted, it has the blocks that were complete.

    Raises:
        PybenchError: as `measure`; what was measured before is in the record.
    """
    collected = Collected()
    rounds = [(each, scenario, blocks(scenario)) for each, scenario in sides]
    status: RunStatus = "failed"
    with Interruption() as interruption:
        # This process holds the host for all blocks, so they have a lock of their own.
        variables = {LOCK_VARIABLE: str(sides[0][0].folder / "run.lock")}
        store.begin_run(run)
        try:
            for at in range(max(len(planned) for *_, planned in rounds)):
                for checkout, scenario, planned in rounds if at % 2 == 0 else rounds[::-1]:
                    if at < len(planned):
                        tell(f"block {at + 1} of {len(planned)}, side {checkout.side.label}")
                        options = [*settings, *checkout.side.settings, *_fixed_number(scenario)]
                        seed = (sides[0][1].schedule.seed + at) % 2**63
                        archived = measure(
                            checkout,
                            planned[at],
                            options,
                            seed=seed,
                            variables=variables,
                            interruption=interruption,
                        )
                        store.add_samples(run.id, collected.add(archived.samples, checkout.side.label))
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            store.finish_run(run.id, status, timestamp(datetime.now(UTC)))
    return status


def _fixed_number(scenario: Scenario) -> Sequence[str]:
    return () if scenario.schedule.stop.precision is None else _FIXED_NUMBER


def measure(
    checkout: Checkout,
    block: Block,
    settings: Sequence[str],
    *,
    seed: int,
    variables: Mapping[str, str],
    interruption: Interruption,
) -> ArchivedRun:
    """Carry out one block of one side.

    Raises:
        InputError: its program does not understand the scenario.
        HostError: it cannot run here, or it ended in a way that it should not.
        KeyboardInterrupt: a signal came; the block has ended and left nothing behind.
    """
    with tempfile.TemporaryDirectory(dir=checkout.folder) as name:
        document = Path(name) / "block.json"
        command = [
            *(*checkout.command, "run", str(checkout.scenario), "--json", str(document)),
            *("--results", name, "--no-report", "--seed", str(seed), "--targets", ",".join(block)),
        ]
        for setting in (*settings, *(f"targets.{label}.repetitions={n}" for label, n in block.items())):
            command += ["--set", setting]
        environment = {**checkout.environment, **variables}
        for variable in _OWN_VARIABLES:
            environment.pop(variable, None)
        code, said = _run(command, environment, interruption)
        if code in {0, _ALL_FAILED} and document.is_file():
            (archived,) = read_archive(document)
            return archived
    where = f"side {checkout.side.label} ({checkout.side})"
    if code == InputError.exit_code:
        raise InputError(f"{where}: {said}")
    raise HostError(f"{where}: {said or f'it ended with exit code {code}'}")


def _run(
    command: Sequence[str], environment: Mapping[str, str], interruption: Interruption
) -> tuple[int, str]:
    """The exit code and the last that was said on standard error."""
    with tempfile.TemporaryFile() as errors:
        # In a session of its own: a Ctrl-C reaches it through us alone, once, and we wait for its teardown.
        with subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        ) as process:
            try:
                with interruption.allowed():
                    process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - _LONGEST_COMPLAINT))
        said = printable(errors.read()).strip()
    if process.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    return process.returncode, said.rpartition("pybench: ")[2]
