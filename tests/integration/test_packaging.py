"""What gets published works: source distribution → wheel → a fresh environment, and the editable install."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "results", "*.egg-info", "*.so", "__pycache__")

FOLDERS = "harness", "runtime", "reports", "scenarios", "vm-images"

# One resource of each kind that the program reads; more than a few bytes of each must be there.
READ_DATA = """
from importlib.resources import files

wanted = {
    "pybench.scenarios": ["startup.yaml"],
    "pybench.reports": ["templates/report.html", "templates/report.css"],
    "pybench.runtime": ["vm/guest/init.c"],
    "pybench.vm_images": [
        "minimal/image.yaml", "minimal/workload.c", "nano/nano.S", "nano/nano.lds", "kernels/tiny.config",
    ],
}
for package, names in wanted.items():
    for name in names:
        print(name, len(files(package).joinpath(name).read_text()) > 100)
"""


def output_of(*command: str | Path) -> str:
    """Run a command outside the source tree and return what it prints."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def pip_install(environment: Path, *arguments: str | Path) -> None:
    """Install into an environment that has no pip of its own."""
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
    ]
    output_of(*pip, "--quiet", "--no-compile", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the source tree, so that nothing built earlier finds its way into the packages."""
    copy = tmp_path_factory.mktemp("packaging") / "sources"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    """The wheel, built from the source distribution."""
    distributions = sources.parent / "distributions"
    output_of(sys.executable, "-m", "build", "--outdir", distributions, sources)
    (wheel,) = distributions.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment that holds the wheel and what it depends on."""
    environment = tmp_path_factory.mktemp("environment")
    output_of(sys.executable, "-m", "venv", "--without-pip", environment)
    pip_install(environment, wheel)
    return environment


@pytest.fixture(params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, sources: Path, environment: Path) -> Path:
    """The environment with pybench installed from the wheel or, in its place, editable."""
    if request.param == "editable":
        pip_install(environment, "--no-deps", "--editable", sources)
    return environment / "bin"


def test_wheel_holds_every_file_of_the_packages(sources: Path, wheel: Path) -> None:
    """A file in a package's folder, code or data, is in the wheel, whatever its name ends in."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = [file for folder in FOLDERS for file in (sources / folder).rglob("*") if file.is_file()]
    assert len(files) > len(FOLDERS)
    names = [f"pybench/{file.relative_to(sources)}".replace("/vm-images/", "/vm_images/") for file in files]
    assert [name for name in names if name not in packed] == []


def test_command_is_installed(installed: Path) -> None:
    """`pybench --help` answers and shows how to use it."""
    assert "Usage" in output_of(installed / "pybench", "--help")


def test_extension_and_packages_are_installed(installed: Path) -> None:
    """Every import package and the C extension can be imported."""
    packages = "harness", "reports", "runtime.container.spawn._spawn", "scenarios", "vm_images"
    output_of(installed / "python", "-c", "".join(f"import pybench.{name}\n" for name in packages))


def test_data_is_installed(installed: Path) -> None:
    """Scenarios, templates, image recipes and guest sources are found as resources of their packages."""
    found = dict(line.split() for line in output_of(installed / "python", "-c", READ_DATA).splitlines())
    assert len(found) == 9
    assert set(found.values()) == {"True"}, found


def test_folders_are_no_top_level_packages(installed: Path) -> None:
    """No package called `harness` or `runtime` appears in the environment beside `pybench`."""
    find = "from importlib.util import find_spec as f; print(f('harness'), f('runtime'), f('reports'))"
    assert output_of(installed / "python", "-c", find).split() == ["None"] * 3
