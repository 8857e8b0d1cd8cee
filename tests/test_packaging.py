"""The wheel and the sdist: what they hold, and that they install and work where folders have our folders' names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT

PACKAGES = {"harness", "harness_plugins", "harness_reports", "harness_training"}
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"
DATA = {
    "harness/py.typed",
    "harness/datasets/catalog.toml",
    "harness/planning/devices.toml",
    "harness/results/mteb_tasks.toml",
    "harness_reports/claims/shipped/published.toml",
    "harness_reports/html/page.html",
    "harness_reports/html/page.js",
    "harness_training/experiment/experiments.toml",
}


def build(kind: str, source: Path, target: Path) -> Path:
    """The file that the build backend makes of the source tree."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(target)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks, without files that a build leaves behind."""
    root = tmp_path_factory.mktemp("packaging")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (root / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "tree" / name).write_bytes((ROOT / name).read_bytes())
    return build("sdist", root / "tree", root)


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent / "unpacked", filter="data")
    [folder] = (sdist.parent / "unpacked").iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(unpacked: Path, sdist: Path) -> Path:
    """Built from the sdist, as an installer builds it."""
    return build("wheel", unpacked, sdist.parent)


def test_a_wheel_holds_four_packages_their_data_and_the_licence(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert set(names) >= DATA
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    ours = {
        path.relative_to(ROOT if package == "harness" else ROOT / package.partition("_")[2]).as_posix()
        for package in PACKAGES
        for path in (ROOT / package if package == "harness" else ROOT / package.partition("_")[2] / package).rglob(
            "*.py"
        )
    }
    assert {name for name in names if name.endswith(".py")} == ours


def test_the_sdist_passes_a_test_by_itself(unpacked: Path) -> None:
    assert (unpacked / "LICENSE").is_file()
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/metrics/test_ranking.py"]
    path = os.pathsep.join(str(unpacked / name) for name in ("", "plugins", "reports", "training"))
    done = subprocess.run(words, cwd=unpacked, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " failed" not in done.stdout


def test_it_runs_where_folders_have_the_names_of_ours(wheel: Path, tmp_path: Path) -> None:
    """In an environment with the wheel, and its dependencies from the environment of the tests."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    [site] = (tmp_path / "env").glob("lib/python*/site-packages")
    ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    for name in ("plugins", "reports", "training"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text("raise SystemExit('the wrong package was imported')\n")
    program = "import harness; print(harness.__file__); from harness.cli.start import main; main()"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", program, "models"],
        cwd=tmp_path / "here",
        env={**env, "HARNESS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout
    assert "bm25" in done.stdout
    assert "plug-ins that failed" not in done.stderr
