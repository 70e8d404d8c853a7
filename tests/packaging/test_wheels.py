"""Built wheels and source distributions can be installed and used in environments without this folder."""

import email.parser
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from commands import MadeOnce, run

from mom_devkit import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/mom-example-swappiness"
FOLDERS = [*sorted(path.parent.name for path in ROOT.glob("mom_*/pyproject.toml")), EXAMPLE]


BUILD = """
import os, sys, tarfile
from hatchling.build import build_sdist, build_wheel

made, unpacked, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    source = build_sdist(made)
    with tarfile.open(os.path.join(made, source)) as archive:
        archive.extractall(unpacked)
    os.chdir(os.path.join(unpacked, source.removesuffix(".tar.gz")))
    build_wheel(made)
"""
"""Program that builds all folders in one process, like `python -m build --no-isolation`."""


@pytest.fixture(scope="session")
def built(made_once: MadeOnce) -> Path:
    """Return a folder with the source distributions, and the wheels that were built from them."""

    def build(folder: Path) -> None:
        (folder / "dist").mkdir()
        run(sys.executable, "-c", BUILD, folder / "dist", folder / "unpacked", *(ROOT / name for name in FOLDERS))
        # The index has no wheels of it, so each environment would compile it again.
        libvirt = f"libvirt-python=={metadata.version('libvirt-python')}"
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "dist", libvirt)

    return made_once("wheels", build) / "dist"


@pytest.fixture(scope="session")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a virtual environment with these requirements, and mom's built wheels. It returns the bin folder.

    uv installs in a tenth of pip's time, unless the environment needs its own pip.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "packaging")
        told: dict[str, str] = importlib.import_module("tree").as_pip_is_told(run(sys.executable, "-m", "pip", "config", "list"))
    if versions := os.environ.get("PIP_CONSTRAINT"):
        told["UV_CONSTRAINT"] = versions
    told["UV_FIND_LINKS"] = ",".join(filter(None, (str(built), os.environ.get("UV_FIND_LINKS") or told.get("UV_FIND_LINKS"))))

    def make(*requirements: str, own_pip: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        run(sys.executable, "-m", "venv", *([] if own_pip else ["--without-pip"]), folder)
        there = folder / "bin/python"
        if own_pip:
            pip = (there, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile", "--find-links", built)
            run(*pip, *requirements)
        else:
            run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", there, *requirements, environment=told)
        return folder / "bin"

    return make


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_holds_all_of_its_package_its_readme_and_the_licence_and_a_source_distribution_its_tests(built: Path, folder: str) -> None:
    (path,) = built.glob(f"{Path(folder).name.replace('-', '_')}-*.whl")
    archive, source = zipfile.ZipFile(path), ROOT / folder / "src"
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert any(name.endswith("/py.typed") for name in held)
    (said,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    about = email.parser.Parser().parsestr(archive.read(said).decode())
    assert about.get_payload() == (ROOT / folder / "README.md").read_text()
    assert about["Description-Content-Type"].startswith("text/markdown")
    assert about["License-Expression"] == "Apache-2.0"
    (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
    assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    with tarfile.open(built / f"{'-'.join(path.name.split('-')[:2])}.tar.gz") as sources:
        files = {member.split("/", 1)[1] for member in sources.getnames() if "/" in member}
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= files
    assert {f"tests/{path.name}" for path in (ROOT / folder / "tests").glob("*.py")} <= files


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    """Return the file of a kernel setting in the folder of a host."""
    path = tmp_path / "root/proc/sys/vm/swappiness"
    path.parent.mkdir(parents=True)
    path.write_text("60\n")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration with libvirt's test driver and the plugin for the kernel setting."""
    path = tmp_path / "mom.yaml"
    folders = f"root: {tmp_path}/root\nstate_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n"
    plugins = 'mode: enforce\nplugins:\n  libvirt: {uri: "test:///default"}\n  swappiness: {wanted: 10}\n'
    path.write_text(f"interval: 2s\nstop_timeout: 60s\n{folders}{plugins}")
    return path


def test_core_libvirt_and_an_outside_plugin_are_enough(environment: Callable[..., Path], tmp_path: Path, knob: Path, config: Path) -> None:
    """A user installs the core, its commands and two plugins, writes one YAML file, and runs and stops mom. Everything is restored."""
    bin_folder = environment("mom-daemon", "mom-plugins-libvirt", "mom-example-swappiness")
    mom = bin_folder / "mom"
    listed = json.loads(run(mom, "plugin", "list", "--json"))
    assert {plugin["name"]: plugin["distribution"] for plugin in listed} == {
        "libvirt": "mom-plugins-libvirt",
        "nova": "mom-plugins-libvirt",
        "swappiness": "mom-example-swappiness",
    }
    run(mom, "config", "check", "-c", config)
    daemon = subprocess.Popen([mom, "run", "-c", config], stderr=subprocess.PIPE, text=True)
    try:
        first_cycle = tmp_path / "run/status.json"
        wait_until(lambda: (knob.read_text() == "10\n" and first_cycle.exists()) or daemon.poll() is not None)
        assert daemon.poll() is None
        status = json.loads(run(mom, "status", "-c", config, "--json"))
        assert status["to_put_back"] >= 1
        assert {plugin["name"]: plugin["state"] for plugin in status["plugins"]} == {"libvirt": "ok", "swappiness": "ok"}
        assert [guest["name"] for guest in json.loads(run(mom, "guests", "-c", config, "--json"))] == ["test"]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    finally:
        daemon.kill()
        _, said = daemon.communicate()
    assert knob.read_text() == "60\n", said
    assert "Traceback" not in said
    assert run(mom, "restore", "-c", config, "--dry-run") == "Nothing to restore.\n"


def test_the_demonstration_needs_nothing_but_its_extra(environment: Callable[..., Path], tmp_path: Path) -> None:
    mom = environment("mom-core[demo]") / "mom"
    assert run(mom, "demo", "--seconds", "0", environment={"HOME": str(tmp_path)})


def test_where_mom_runs_pytest_is_not_installed_and_finds_nothing_of_mom(environment: Callable[..., Path]) -> None:
    bin_folder = environment("mom-core[kvm]")
    found = "[p.value for p in m.entry_points(group='pytest11') if p.dist.name.startswith('mom')]"
    program = f"import importlib.metadata as m, importlib.util as u; print({found}, u.find_spec('pytest'))"
    assert run(bin_folder / "python", "-c", program) == "[] None\n"
    done = subprocess.run([bin_folder / "mom", "plugin", "new", "x"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "comes with mom-devkit, which is not installed" in done.stderr


@pytest.mark.release
def test_what_plugin_new_says_comes_next_works_with_a_fresh_environments_pip(environment: Callable[..., Path], tmp_path: Path) -> None:
    bin_folder = environment("mom-devkit", own_pip=True)
    said = run(bin_folder / "mom", "plugin", "new", "page-cache", "--kind", "collector", "--directory", tmp_path / "made")
    lines = [shlex.split(line) for line in said.splitlines() if line.startswith("    ")]
    assert lines[0] == ["cd", str(tmp_path / "made")]
    for program, *words in lines[1:]:
        if program == "pip":
            words += ["--quiet", "--disable-pip-version-check", "--no-compile"]  # because most of it never runs
        run(bin_folder / program, *words, cwd=tmp_path / "made")
