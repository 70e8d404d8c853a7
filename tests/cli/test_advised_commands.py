"""Advice of commands: commands that exist, patterns without guests, and plugins for a host."""

import json
import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from mom_daemon.cli.frame import mom
from mom_daemon.config.draft import draft_config
from mom_daemon.doctor import doctor_command

QUOTED = re.compile(r"`mom ([a-z][^`]*)`")
SOURCES = Path(__file__).resolve().parents[2]


def test_every_command_that_the_sources_advise_can_be_run() -> None:
    """Options are left out, and so are commands with placeholders."""
    advised = {
        found
        for path in SOURCES.glob("mom_*/src/**/*.py")
        for found in QUOTED.findall(path.read_text("utf-8"))
        if not re.search(r"[{}\[\]….]|\.\.\.|[A-Z]{2}", found)
    }
    assert len(advised) > 40
    for words in sorted(advised):
        result = CliRunner().invoke(mom, [*shlex.split(words.partition(" -")[0]), "--help"])
        assert result.exit_code == 0, words


def said_of(folder: Path, hypervisor: str, guests: str) -> list[tuple[str, str]]:
    """Return the findings for these lines of the section, with cures."""
    config = folder / "mom.yaml"
    directories = f"state_directory: {folder}/state\nrun_directory: {folder}/run\n"
    config.write_text(f"{directories}plugins:\n  {hypervisor}: {{}}\n  balloon: {{}}\n\nguests:\n{guests}")
    result = CliRunner().invoke(doctor_command, ["-c", str(config), "--json"])
    found = [one for one in json.loads(result.stdout) if (one["plugin"], one["subject"]) == ("core", "guests")]
    return [(one["message"], one["cure"]) for one in found]


def test_patterns_of_names_that_match_no_guest_are_named(tmp_path: Path) -> None:
    said = said_of(tmp_path, "sim", '  "no-1": {guarantee: 1GiB}\n  "no-*": {}\n  "flavor=m1.*": {}\n  "*": {guarantee: 10MiB}\n')
    assert said == [("these patterns of `guests` match no guest here: no-1, no-*", "correct the patterns that should match guests")]


def test_a_host_of_nova_gets_libvirt_and_nova_and_another_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "run/libvirt").mkdir(parents=True)
    (tmp_path / "run/libvirt/libvirt-sock").touch()
    assert "nova" not in draft_config(tmp_path).enabled
    (tmp_path / "var/lib/nova/instances").mkdir(parents=True)
    draft = draft_config(tmp_path)
    enabled = list(draft.enabled)
    assert enabled.index("libvirt") < enabled.index("nova") < enabled.index("balloon")
    assert "# nova: there is /var/lib/nova/instances: this is a host of OpenStack nova" in draft.text
    assert "flavor=m1.*" in draft.text, "how patterns go by it is shown"


def test_a_node_with_kubevirt_gets_its_plugin_and_not_that_of_a_libvirt_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run/libvirt").mkdir(parents=True)
    (tmp_path / "run/libvirt/libvirt-sock").touch()
    (tmp_path / "var/run/kubevirt").mkdir(parents=True)
    draft = draft_config(tmp_path)
    assert list(draft.enabled)[:2] == ["kubevirt", "balloon"]
    assert "# kubevirt: there is /var/run/kubevirt: this is a node of KubeVirt" in draft.text
    assert draft.left_out["libvirt"] == "kubevirt already lists the guests of this host"
