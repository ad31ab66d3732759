"""One execution of a scenario, from its images to its last sample; whoever asks for it says what is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pybench import vm_images
from pybench.harness.environment import capture
from pybench.harness.errors import InputError, PybenchError
from pybench.harness.model import Environment, Run
from pybench.harness.runner.calibration import calibrate, calibration_fields
from pybench.harness.runner.lock import host_lock
from pybench.harness.runner.progress import ignore
from pybench.harness.runner.runner import Runner
from pybench.harness.store import SPOOL, SpooledStore, Store, new_run_id, timestamp
from pybench.harness.targets import KINDS, TargetContext, open_target
from pybench.harness.targets.mock import MockImage
from pybench.runtime.journal import open_journal
from pybench.runtime.leftovers import remove_leftovers

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.model import Scenario
    from pybench.harness.runner.calibration import Latency
    from pybench.harness.runner.progress import Listener
    from pybench.harness.runner.runner import Outcome
    from pybench.harness.store import Recorder
    from pybench.harness.targets.base import Target
    from pybench.vm_images import Image

Tell = Callable[[str], None]
"""Is given one line of what happens beside the measurements."""
TargetChange = Callable[["Target", str], "Target"]
"""From a target and its label to what is launched instead of it."""


def unchanged(target: Target, label: str) -> Target:  # noqa: ARG001 - the signature of a TargetChange
    """The target as it is."""
    return target


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with all that is needed to carry it out, and the run that it will be recorded as."""

    scenario: Scenario
    run: Run
    images: Mapping[str, Image | MockImage]
    calibration: Mapping[str, Latency]

    def carry_out(
        self,
        store: Recorder,
        results: Path,
        listener: Listener = ignore,
        change: TargetChange = unchanged,
    ) -> Outcome:
        """Launch, measure and record; logs go to a folder of the run, which is removed if it stays empty.

        Raises:
            PybenchError: as `Runner.carry_out`; what was measured before is in the record.
        """
        folder = results / self.run.id
        folder.mkdir()
        try:
            with open_journal() as journal:
                context = TargetContext(journal, folder)
                runner = Runner(
                    store,
                    lambda choice: change(open_target(choice, context), choice.name),
                    self.images,
                    listener,
                    calibration=self.calibration,
                )
                return runner.carry_out(self.scenario, self.run)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()


def prepare(scenario: Scenario, command: str, fields: Mapping[str, str], tell: Tell) -> Prepared:
    """Remove what a killed run left, find or build the images, and calibrate the channels.

    Args:
        scenario: what is to be carried out.
        command: the command line that does it again.
        fields: of the environment, beside what is captured here.
        tell: is told what is removed and built.

    Raises:
        HostError: an image cannot be built here.
        InputError: there is no such image.
    """
    for line in remove_leftovers():
        tell(f"left by a run that was killed: {line}")
    images = find_images(scenario, tell)
    kinds = [target.kind for target in scenario.targets]
    calibration = calibrate(kinds)
    told = {**capture(kinds, images).fields, **calibration_fields(calibration), **fields}
    return Prepared(scenario, new_run(scenario, command, Environment(told)), images, calibration)


def new_run(scenario: Scenario, command: str, environment: Environment) -> Run:
    """A run of a scenario that begins now."""
    started = datetime.now(UTC)
    return Run(
        id=new_run_id(scenario.name, started),
        scenario=scenario.name,
        source=scenario.source,
        started=timestamp(started),
        finished=None,
        status="running",
        command=command,
        environment=environment,
        definition=scenario.definition,
    )


def find_images(scenario: Scenario, tell: Tell) -> Mapping[str, Image | MockImage]:
    """The images of all workloads; one that is not built, or not from today's recipe, is built now."""
    names = scenario.images
    if not _launches_something(scenario):
        return {name: MockImage(name) for name in names}
    found: dict[str, Image | MockImage] = {}
    for name in names:
        try:
            found[name] = vm_images.find(name)
        except InputError:
            if name not in vm_images.sources():
                raise
            tell(f"image {name} is not built yet; building it")
            found[name] = vm_images.build(name, progress=lambda text: tell(f"{text} …"))
    return found


def check_images(scenario: Scenario) -> None:
    """Check that every image of a scenario is there or can be built.

    Raises:
        InputError: one of them is not known on this host.
    """
    if _launches_something(scenario):
        for name in set(scenario.images) - set(vm_images.sources()):
            vm_images.find(name)


def host_for_itself(scenario: Scenario, *, wait: bool, tell: Tell) -> contextlib.AbstractContextManager[None]:
    """The lock of this host; a scenario that launches nothing disturbs nobody."""
    if not _launches_something(scenario):
        return contextlib.nullcontext()
    return host_lock(scenario.name, wait=wait, tell=tell)


def open_recorder(place: Path | str, results: Path, tell: Tell) -> Store | SpooledStore:
    """The record; one on a server has a copy in the results folder until the server has everything.

    Args:
        place: a file, or the URL of a database.
        results: the results folder.
        tell: is told when the server is lost, and what has waited for it since it was lost before.

    Raises:
        InputError: it is no record of ours.
        HostError: it cannot be opened here and now.
    """
    if "://" not in str(place) or str(place).startswith("sqlite"):
        return Store.open(place)

    def tell_loss(loss: PybenchError) -> None:
        tell(f"pybench: {loss.message}")
        tell("  kept on this host; `pybench history sync` delivers it later")

    server, spool = Store.open(place), Store.open(results / SPOOL)
    if waiting := sum(run.status != "running" for run in spool.runs()):
        runs = "1 run" if waiting == 1 else f"{waiting} runs"
        tell(f"kept here while the server was away: {runs}; `pybench history sync` delivers them")
    return SpooledStore(server, spool, tell_loss)


def _launches_something(scenario: Scenario) -> bool:
    return any(KINDS[target.kind].needs_image for target in scenario.targets)
