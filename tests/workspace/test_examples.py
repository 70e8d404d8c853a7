"""What examples/ and the README show can be used as it stands."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from mom_core import Decision, Engine, PluginContext, load_config
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


def test_the_readmes_plugin_has_thirty_lines_and_works(shelf, tmp_path: Path) -> None:
    source = block("python")
    assert len(source.splitlines()) <= 30
    shelf.add("mom-writeback", tomllib.loads(block("toml"))["project"]["entry-points"]["mom.plugins"], {"mom_writeback": source})
    host_of(tmp_path / "root", {"proc/meminfo": "MemTotal: 1000 kB\nDirty: 5000 kB\n"})
    folders = {key: str(tmp_path / key) for key in ("root", "state_directory", "run_directory")}
    with Engine(load_config({"plugins": {"writeback": {"most": "1MiB"}}, **folders})) as engine:
        report = engine.cycle()
    assert report.problems == ()
    assert report.snapshot.host.fields["mem_dirty"] == 5000


def test_the_readmes_plugin_holds_back_only_what_shrinks(shelf) -> None:
    shelf.add("mom-writeback", {}, {"mom_writeback": block("python")})
    plugin_class = import_module("mom_writeback").WritebackPlugin
    plugin = plugin_class(plugin_class.Settings(most="1MiB"), PluginContext())
    guests = {"vm1": {"balloon_cur": 1000}}
    entity = snapshot(guests=guests).guests["vm1"].entity
    decisions = [Decision(entity, "balloon_target", 900), Decision(entity, "balloon_target", 1100)]
    assert [revision.before for revision in plugin.mom_review(snapshot({"mem_dirty": 5000}, guests), decisions)] == decisions[:1]
    for quiet in ({"mem_dirty": 100}, {"mem_dirty": None}, {}):
        assert list(plugin.mom_review(snapshot(quiet, guests), decisions)) == []


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
