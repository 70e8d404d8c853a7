"""The tutorial's hypervisor, with only its fields, under mom's default policy."""

import importlib.util
import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from host_files import meminfo

from mom_core import Engine, Report, Severity
from mom_daemon.plugins.declared import check_plugins
from mom_devkit import config_of, host_of
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.learned import SAME_STATISTICS_SECONDS
from mom_plugins_host.host import HostPlugin
from mom_plugins_policy import PolicyPlugin

TUTORIAL = Path(__file__).parents[2] / "docs/authors/tutorial-hypervisor.md"
GIB = 1 << 20


@pytest.fixture
def microvm(tmp_path: Path) -> ModuleType:
    """Return the tutorial's plugin."""
    found = re.search(r"^```python src/mom_microvm/plugin\.py\n(.*?)^```", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    path = tmp_path / "microvm_of_the_tutorial.py"
    path.write_text(found[1])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def follow(folder: Path) -> int:
    """Act like the program that runs the guests: apply requests, and report the guest's state. Return its size."""
    path = folder / "web.json"
    content = json.loads(path.read_text())
    size = content.pop("target_kib", content["memory_kib"])
    content |= {"free_kib": content["free_kib"] - (content["memory_kib"] - size), "memory_kib": size}
    path.write_text(json.dumps(content))
    return int(size)


def problems_of(report: Report, name: str) -> list[str]:
    return [problem.message for problem in report.problems if problem.source.name == name]


def test_a_balloon_moves_by_the_default_policy_when_the_host_is_short(tmp_path: Path, microvm: ModuleType) -> None:
    guests = tmp_path / "root/run/microvm"
    host_of(tmp_path / "root", {"proc/meminfo": meminfo(8 * GIB, 8 * GIB // 50)})
    guests.mkdir(parents=True)
    web = {"uuid": "7e1d", "started": 1, "memory_kib": 4 * GIB, "maximum_kib": 4 * GIB, "free_kib": 3 * GIB}
    (guests / "web.json").write_text(json.dumps(web))
    plugins = {"host": HostPlugin, "microvm": microvm.MicrovmPlugin, "policy": PolicyPlugin, "balloon": BalloonPlugin}
    settings = {"host": {"watch": "0s"}}
    sizes = []
    with Engine(config_of(tmp_path, plugins, settings, root=tmp_path / "root")) as engine:
        for _ in range(3):
            report = engine.cycle()
            assert problems_of(report, "policy") == []
            time.sleep(SAME_STATISTICS_SECONDS)  # mom shrinks a guest only with newer statistics than at the last request
            sizes.append(follow(guests))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] < 4 * GIB


def test_a_missing_field_of_the_law_is_a_lasting_problem(tmp_path: Path, microvm: ModuleType) -> None:
    del microvm.FIELDS["mem_usable"]
    plugins = {"host": HostPlugin, "microvm": microvm.MicrovmPlugin, "policy": PolicyPlugin, "balloon": BalloonPlugin}
    config = config_of(tmp_path, plugins, {"host": {"watch": "0s"}}, root=tmp_path / "root")
    said = "the balloon law suggests no sizes: no plugin declares guest.mem_usable"
    checked = check_plugins(config)
    assert checked.errors == []
    ((name, finding),) = checked.findings
    assert (name, finding.severity, finding.message) == ("balloon", Severity.WARNING, said)
    assert "a hypervisor plugin for the guests' fields" in finding.cure
    with Engine(config) as engine:
        for _ in range(3):
            assert problems_of(engine.cycle(), "balloon") == [said]
        (standing,) = [one for one in engine.problems() if one.source.name == "balloon"]
        assert standing.cycles == 3
