"""Files of a release: distributions for an index, a bill of materials, and wheels for hosts without internet."""

import hashlib
import json
import sys
import venv
from pathlib import Path

import pytest
from commands import run

pytestmark = pytest.mark.release

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent.name for path in ROOT.glob("mom_*/pyproject.toml"))
NO_INDEX = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_NO_CONFIG": "1"}
"""Settings of a host without internet: pip uses no index."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs that build releases."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1")
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--group", f"{ROOT}/pyproject.toml:release", "pipx")
    return folder / "bin"


@pytest.fixture(scope="module")
def release(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and check all files of a release."""
    folder = tmp_path_factory.mktemp("release")
    run(tools / "python", ROOT / "packaging/release.py", folder)
    return folder


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheels for the demo. Wheels for guests need tools that not every developer has."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    run(sys.executable, ROOT / "packaging/wheelhouse.py", folder, "demo")
    return folder


def test_every_distribution_is_there_twice_and_says_where_it_comes_from(release: Path) -> None:
    made = {path.name for path in (release / "dist").iterdir()}
    assert {name.split("-")[0] for name in made} == set(FOLDERS)
    assert len(made) == 2 * len(FOLDERS)


def test_the_bill_of_materials_names_mom_and_all_that_it_needs_with_versions(release: Path) -> None:
    (path,) = release.glob("mom-*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "mom-core"
    named = {component["name"].lower().replace("_", "-"): component["version"] for component in bill["components"]}
    assert {"pluggy", "pydantic", "libvirt-python", "mom-plugins-libvirt"} <= set(named)
    assert all(named.values())
    assert "pip" not in named, "it made the environment, and is no part of mom"


def test_the_workflows_are_what_github_takes_and_nothing_in_them_can_be_abused(tools: Path) -> None:
    """The checks are GitHub's schema and zizmor, which finds known weaknesses."""
    workflows = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("examples/*/.github/workflows/*.yml")])
    assert len(workflows) >= 2
    run(tools / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    run(tools / "zizmor", "--offline", "--no-progress", *workflows)


def test_a_host_without_internet_installs_mom_from_the_wheelhouse(wheelhouse: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "mom", with_pip=True)
    run(tmp_path / "mom/bin/pip", "install", "--quiet", "--no-index", "--find-links", wheelhouse, "mom-core[demo]", environment=NO_INDEX)
    assert "What to type next" in run(tmp_path / "mom/bin/mom", "demo", "--seconds", "3", environment={"HOME": str(tmp_path)})


def test_the_wheelhouse_says_what_each_wheel_is(wheelhouse: Path) -> None:
    lines = (wheelhouse / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheelhouse.glob("*.whl")}
    assert not [name for name in sums if not name.endswith("-any.whl") and "linux" not in name]


def test_mom_is_tried_out_without_being_installed(wheelhouse: Path, tools: Path, tmp_path: Path) -> None:
    """`uvx` and `pipx run` run mom from the wheelhouse."""
    home = {"HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv"), "PIPX_HOME": str(tmp_path / "pipx"), **NO_INDEX}
    uvx = ("--python", sys.executable, "--no-index", "--find-links", wheelhouse, "--from", "mom-core[demo]")
    assert "What to type next" in run(tools / "uvx", *uvx, "mom", "demo", "--seconds", "3", environment=home)
    pipx = (f"--pip-args=--no-index --find-links {wheelhouse}", "--spec", "mom-core[demo]")
    assert "What to type next" in run(tools / "pipx", "run", *pipx, "mom", "demo", "--seconds", "3", environment=home)
