"""`mom doctor` about mom-helper, for a mom without root."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mom_devkit import host_of
from mom_devkit.without_root import USER, MomPower, another_user, why_not_another_user

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not_another_user()), reason=why_not_another_user())]

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def configuration(mom_open_folder: Path) -> Path:
    """Write a configuration with the plugin numa, whose file is not declared for the helper of these tests."""
    host_of(mom_open_folder, {"root/proc/sys/kernel/numa_balancing": "0\n", "root/proc/meminfo": "MemTotal: 1 kB\n"})
    path = mom_open_folder / "mom.yaml"
    folders = f"root: {mom_open_folder}/root\nstate_directory: {mom_open_folder}/state\nrun_directory: {mom_open_folder}/run\n"
    path.write_text(f"{folders}plugins: {{numa: {{}}}}\n")
    return path


def told(mom: Verb, configuration: Path, subject: str) -> list[dict[str, str]]:
    _, out, err = mom("doctor", "-c", configuration, "--json")
    assert out, err
    return [one for one in json.loads(out) if one["subject"] == subject]


def test_it_says_what_root_lets_it_write_and_which_lines_would_let_it_write_more(mom: Verb, configuration: Path) -> None:
    power = MomPower(by_helper=True)
    try:
        with power("[knob /sys/kernel/mm/ksm/run]\nvalues = 0 1 2\n"):
            (helper,) = told(mom, configuration, "mom-helper")
            (knob,) = told(mom, configuration, "numa_balancing")
    finally:
        power.close()
    assert (helper["severity"], helper["message"].endswith("root allows it to write /sys/kernel/mm/ksm/run")) == ("ok", True)
    assert (knob["plugin"], knob["severity"]) == ("numa", "warning")
    assert "`[knob /proc/sys/kernel/numa_balancing]`, `values = 0 1 2 3`" in knob["cure"]
    assert "/etc/mom/helper.d/" in knob["cure"]


def test_without_one_it_says_how_to_start_it(mom: Verb, configuration: Path) -> None:
    with another_user(USER):
        (helper,) = told(mom, configuration, "mom-helper")
    assert "systemctl enable --now mom-helper.socket" in helper["cure"]
    if os.geteuid() == 0:
        assert told(mom, configuration, "mom-helper") == [], "root needs none"
