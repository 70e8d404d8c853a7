"""Examples in examples/ and the README work."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from mom_core import Engine, PluginContext, load_config
from mom_core.testing import snapshot
from mom_devkit import host_of
from mom_plugins_policy import Policy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CORE_README = (ROOT / "mom_core/README.md").read_text()


def block(language: str, text: str = README, number: int = 0) -> str:
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    return blocks[number]


@pytest.mark.parametrize("path", sorted((ROOT / "examples/config").glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_configuration_loads(path: Path, shelf) -> None:
    if "swappiness" in path.name:
        shelf.add("mom-example-swappiness", {"swappiness": "mom_example_swappiness:SwappinessPlugin"})
    assert load_config(path).plugins


def test_the_readmes_configuration_loads(tmp_path: Path) -> None:
    path = tmp_path / "mom.yaml"
    path.write_text(block("yaml"))
    assert list(load_config(path).plugins) == ["host", "libvirt", "policy", "balloon", "ksm"]


@pytest.mark.parametrize(("hour", "pages"), [(22, []), (23, [5000]), (3, [5000]), (6, [])])
def test_the_readmes_policy_works_at_night_only(hour: int, pages: list[int]) -> None:
    result = Policy.compile({"60_night": block("lisp")}).evaluate(snapshot({"time_hour": hour, "ksm_pages_to_scan": 100}))
    assert [decision.value for decision in result.decisions] == pages
    assert list(result.errors) == []


def test_the_readmes_controller_reads_its_file_sets_it_and_has_it_restored(shelf, tmp_path: Path) -> None:
    source = block("python")
    assert len([line for line in source.splitlines() if line]) <= 10
    shelf.add("mom-swappiness", tomllib.loads(block("toml"))["project"]["entry-points"]["mom.plugins"], {"mom_swappiness": source})
    policies, root = tmp_path / "policies", tmp_path / "root"
    policies.mkdir()
    (policies / "60_swap.policy").write_text('(Host.Control "vm_swappiness" 7)\n')
    host_of(root, {"proc/sys/vm/swappiness": "60\n"})
    folders = {"root": str(root), **{key: str(tmp_path / key) for key in ("state_directory", "run_directory")}}
    plugins = {"swappiness": {}, "policy": {"directory": str(policies)}}
    with Engine(load_config({"mode": "enforce", "plugins": plugins, **folders})) as engine:
        report = engine.cycle()
        assert (root / "proc/sys/vm/swappiness").read_text() == "7\n"
    assert report.problems == ()
    assert report.snapshot.host.fields["vm_swappiness"] == 60
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_the_cores_readme_shows_a_plugin_that_works(shelf, tmp_path: Path) -> None:
    shelf.add("mom-writeback", {}, {"mom_writeback": block("python", CORE_README)})
    plugin_class = import_module("mom_writeback").UptimePlugin
    host = host_of(tmp_path / "root", {"proc/uptime": "12.5 20.0\n"})
    assert plugin_class(None, PluginContext(root=host)).mom_collect_host() == {"uptime": 12.5}


def test_the_cores_readme_shows_how_to_embed_mom(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block("python", CORE_README, 1).replace('"/var/lib', f'"{tmp_path}').replace('"/run', f'"{tmp_path}/run'))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mem_free" in done.stdout
