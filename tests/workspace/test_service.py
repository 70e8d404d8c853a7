"""The units in packaging/, and the script that sets everything up."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from mom_core.cli import frame

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "packaging").glob("*.service"))


def unit(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of keys
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists(path: Path) -> None:
    program, verb, *options = unit(path)["Service"]["ExecStart"].split()
    assert program == "/opt/mom/bin/mom"
    assert options == ["-c", "/etc/mom/mom.yaml"]
    assert verb in frame.VERBS


def test_the_service_falls_back_on_a_unit_that_exists() -> None:
    service = unit(ROOT / "packaging/mom.service")
    assert (ROOT / "packaging" / service["Unit"]["OnFailure"]).is_file()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/mom/bin/mom", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.glob("*.service")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_run_without_a_verb_says_which_there_are() -> None:
    done = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.findall(r"^\./run (\w+)", done.stderr, re.M) == ["demo", "tests", "setup"]
