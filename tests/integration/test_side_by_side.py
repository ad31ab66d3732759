"""Measurements of several instances at once that share a host: ports, images and layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pybench.runtime import page_cache
from pybench.vm_images import Image

PYBENCH = str(Path(sys.executable).with_name("pybench"))
TARGETS = """\
targets:
  chroot: {repetitions: 1}
  container: {repetitions: 1, network: bridge}
schedule: {warmups: 0, stop_timeout: 1s}
"""
SERVERS = """\
name: servers
workloads:
  web:
    image: minimal
    command: [/bin/busybox, httpd, -f, -p, "8091", -h, /etc]
    readiness: {level: http, port: 8091, path: /hostname}
measure:
  ports: {instances: 3}
"""
READERS = """\
name: readers
workloads:
  reader: {image: minimal, command: [/bin/workload, ready], readiness: {text: ready}}
measure:
  coexistence: {beside: [minimal-virtio], tell: [/bin/busybox, readlink, /usr/sbin]}
  layers: {instances: 2, read: [/bin/busybox, sha256sum, /bin/busybox, /bin/workload]}
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make bridges and chroots")

Values = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def samples(image: Image, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The samples of two runs, as a user gets them."""
    assert image.name == "minimal"
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "PYBENCH_LOCK": str(folder / "lock")}
    found: list[dict[str, object]] = []
    for text in (SERVERS, READERS):
        (folder / "together.yaml").write_text(text + TARGETS, encoding="utf-8")
        command = [PYBENCH, "run", "together.yaml", "--json", "out.json"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        found += json.loads((folder / "out.json").read_text(encoding="utf-8"))["samples"]
    return found


@pytest.fixture(scope="module")
def values(samples: list[dict[str, object]]) -> Values:
    """Target and metric → value."""
    return {(str(each["target"]), str(each["metric"])): float(str(each["value"])) for each in samples}


def test_one_port_is_one_process_s_and_every_container_s(
    values: Values, samples: list[dict[str, object]]
) -> None:
    """On the host's network the first server gets it, and the others say so; containers have their own."""
    assert values["chroot", "ports.answering"] == 1
    assert values["chroot", "ports.conflicts"] == 2
    assert values["container", "ports.answering"] == 3
    assert values["container", "ports.conflicts"] == 0
    said = [each["qualifiers"] for each in samples if each["metric"] == "ports.conflicts"]
    assert [item for item in said if isinstance(item, dict) and "conflict" in item]
    conflict = next(item["conflict"] for item in said if isinstance(item, dict) and "conflict" in item)
    assert conflict == "Address already in use"


def test_instances_of_several_images_live_together(values: Values) -> None:
    """Two images with the same files give the same answer, and the host has not changed."""
    for target in ("chroot", "container"):
        assert values[target, "coexistence.alive"] == 2
        assert values[target, "coexistence.different"] == 1
        assert values[target, "coexistence.host.changes"] == 0


def test_instances_of_one_image_share_its_pages(values: Values, image: Image) -> None:
    """Both have read the two programs, which the host keeps once; copies would be twice of everything."""
    read = sum((image.rootfs / "bin" / name).stat().st_size for name in ("busybox", "workload"))
    disk = sum(map(page_cache.disk_bytes, page_cache.regular_files(image.rootfs)))
    for target in ("chroot", "container"):
        assert read <= values[target, "layers.cache"] <= disk
        assert values[target, "layers.cache.copies"] == 2 * values[target, "layers.cache"]
        assert values[target, "layers.cache.guests"] == 0
        assert values[target, "layers.disk"] == disk
        assert values[target, "layers.disk.copies"] == 2 * disk


def test_the_kernel_forgets_a_file_and_reads_it_again(tmp_path: Path) -> None:
    """Of a file that nobody maps nothing is kept once it is forgotten; of a part that is read, some."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 << 20))
    (tmp_path / "link").hardlink_to(path)
    assert len(list(page_cache.regular_files(tmp_path))) == 1
    page_cache.forget(path)
    before = page_cache.cached_bytes(path)
    with path.open("rb") as file:
        file.read()
    assert before < 4 << 20
    assert page_cache.cached_bytes(path) == 4 << 20
    assert page_cache.cached_bytes(Path(__file__).parent / "conftest.py") <= 1 << 20
