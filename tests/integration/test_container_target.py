"""The target `container`: what its instances have to themselves when several are alive."""

from __future__ import annotations

from pathlib import Path

from patience import PATIENCE

from pybench.harness.model import TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.journal import Journal
from pybench.vm_images import Image


def first_id(pid: int) -> int:
    """Of the host, as user 0 of a process's namespace (user_namespaces(7))."""
    return int(Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split()[1])


def test_instances_that_are_alive_together_share_no_ids(
    image: Image, journal: Journal, tmp_path: Path
) -> None:
    """Each has a range of 65536 ids of its own, which the next one takes over when it has ended."""
    target = open_target(TargetChoice("container", "container", 1), TargetContext(journal, tmp_path))
    try:
        target.prepare(Workload("ready", "minimal", ("/bin/workload", "ready")), image)
        instances = [target.launch(PATIENCE) for _ in range(3)]
        ids = [first_id(instance.processes[0]) for instance in instances]
        assert min(abs(one - other) for one in ids for other in ids if one != other) >= 65536
        assert len(set(ids)) == 3
        instances[1].stop(2)
        instances.append(target.launch(PATIENCE))
        assert first_id(instances[3].processes[0]) == ids[1]
        for instance in instances:
            instance.stop(2)
    finally:
        target.cleanup()
