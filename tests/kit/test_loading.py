"""Plugins from anywhere: installed while mom runs, or in a folder that is trusted."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mom_core import ConfigError, load_config
from mom_core.plugins.trust import distrust
from mom_devkit.plugin_new import write_project

if TYPE_CHECKING:
    from conftest import Daemon

VMSTAT = "allocstall_normal 10\npgscan_kswapd 400\noom_kill 3\n"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_that_is_installed_while_mom_runs_is_used_after_sighup(daemon: Daemon, tmp_path: Path) -> None:
    (daemon.root / "proc/vmstat").write_text(VMSTAT)
    daemon.install("quiet", "class Plugin:\n    contract = '1.0'\n    def __init__(self, settings, context): pass\n")
    daemon.configure("quiet: {}")
    process = daemon.start()
    daemon.wait_for(lambda: daemon.state_of("quiet") == "ok")

    write_project("page-cache", "collector", tmp_path / "project")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", tmp_path / "project")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", daemon.site, wheel)
    daemon.configure("quiet: {}", "page-cache: {}")
    process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: daemon.state_of("page-cache") == "ok")
    daemon.wait_for(lambda: daemon.status()["host"]["fields"].get("page_cache_oom_kills") == 3)

    info = daemon.mom("plugin", "info", "page-cache").stdout
    assert f"from {daemon.site / 'mom_page_cache'}, for contract" in info
    assert "running: ok, " in info
    assert "in the last cycle: mom_collect_host" in info
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture
def project(daemon: Daemon) -> Path:
    (daemon.root / "proc/vmstat").write_text(VMSTAT)
    folder = daemon.directory / "projects/page-cache"
    write_project("page-cache", "collector", folder)
    return folder


def test_a_plugin_in_a_folder_is_used_when_the_configuration_names_the_folder(daemon: Daemon, project: Path) -> None:
    daemon.configure("page-cache: {}")
    assert "plugin 'page-cache' is not installed" in daemon.mom("config", "check").stderr
    daemon.configure("page-cache: {}", top=f"plugin-path: [{project}]")
    assert daemon.mom("config", "check").returncode == 0
    (row,) = [row for row in json.loads(daemon.mom("plugin", "list", "--json").stdout) if row["name"] == "page-cache"]
    assert (row["installed"], row["enabled"], row["folder"]) == (False, True, str(project / "src"))
    assert f"in {project / 'src'}" in daemon.mom("plugin", "list").stdout
    assert f'"{project}"' in daemon.mom("config", "show").stdout
    daemon.start()
    daemon.wait_for(lambda: daemon.status().get("host", {}).get("fields", {}).get("page_cache_oom_kills") == 3)


def test_a_folder_that_others_may_write_to_is_refused_with_its_line(daemon: Daemon, project: Path) -> None:
    daemon.configure("page-cache: {}", top=f"plugin-path: [{project}]")
    for path in (project.parent, project, project / "src/mom_page_cache/plugin.py"):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IWGRP)
        refused = daemon.mom("config", "check")
        assert refused.returncode == 2
        assert f"plugin-path[0]: not used: {path} can be written by its group" in refused.stderr
        assert f"{daemon.config}:6:" in refused.stderr
        path.chmod(mode)
    assert daemon.mom("config", "check").returncode == 0


def test_a_sighup_that_names_an_untrusted_folder_keeps_what_is_in_force(daemon: Daemon, project: Path) -> None:
    daemon.configure("page-cache: {}", top=f"plugin-path: [{project}]")
    process = daemon.start()
    daemon.wait_for(lambda: daemon.state_of("page-cache") == "ok")
    project.chmod(0o777)
    process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: "the new configuration is refused" in daemon.logged())
    assert "can be written by everybody" in daemon.logged()
    assert daemon.state_of("page-cache") == "ok"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("relative/path", "must be a path that begins with /"),
        ("/nonexistent-kit", "No such file"),
        ("/etc/hostname-kit/../hostname", "No such file"),
    ],
)
def test_what_is_no_folder_of_a_plugin_is_said(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({"plugins": {"host": {}}, "plugin-path": [value]})


def test_a_folder_without_a_plugin_and_one_with_far_too_much_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds no plugin"):
        load_config({"plugins": {"host": {}}, "plugin-path": [str(tmp_path)]})
    monkeypatch.setattr("mom_core.plugins.trust.MOST_FILES", 2)
    for number in range(5):
        (tmp_path / f"{number}").write_text("")
    with pytest.raises(ConfigError, match="more than 2 files"):
        load_config({"plugins": {"host": {}}, "plugin-path": [str(tmp_path)]})


def test_the_key_is_spelt_with_a_hyphen_and_the_other_way_gets_advice() -> None:
    with pytest.raises(ConfigError, match="did you mean 'plugin-path'"):
        load_config({"plugins": {"host": {}}, "plugin_path": []})


def test_an_installed_plugin_of_the_same_name_is_not_chosen_in_silence(daemon: Daemon, project: Path) -> None:
    daemon.install("page-cache", "class Plugin: pass\n")
    daemon.configure("page-cache: {}", top=f"plugin-path: [{project}]")
    said = daemon.mom("config", "check").stderr
    assert f"is provided by mom-page-cache in {project / 'src'} and by kit-page-cache 1.0" in said
    assert f"take {project / 'src'} out of plugin-path" in said


def test_a_module_that_is_really_something_installed_is_refused(daemon: Daemon, project: Path) -> None:
    (daemon.site / "mom_page_cache.py").write_text("class PageCachePlugin:\n    contract = '1.0'\n    def __init__(self, s, c): pass\n")
    daemon.configure("page-cache: {}", top=f"plugin-path: [{project}]")
    assert "was imported from" in daemon.mom("config", "check").stderr


# --- whom to trust ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def looking(tmp_path: Path) -> Callable[..., Callable[[str], os.stat_result]]:
    """A look at files in which one path has another owner or mode than it really has."""

    def make(path: Path, *, owner: int | None = None, mode: int | None = None) -> Callable[[str], os.stat_result]:
        def look(name: str) -> os.stat_result:
            found = list(os.lstat(name))
            if name == str(path):
                found[stat.ST_UID] = found[stat.ST_UID] if owner is None else owner
                found[stat.ST_MODE] = found[stat.ST_MODE] if mode is None else mode
            return os.stat_result(found)

        return look

    return make


def test_another_owner_anywhere_on_the_way_is_refused(tmp_path: Path, looking) -> None:
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (folder / "x.py").write_text("")
    assert distrust(folder) == ""
    for path in (Path("/"), tmp_path, tmp_path / "a", folder, folder / "x.py"):
        assert "belongs to the user 12345" in distrust(folder, looking(path, owner=12345)), path


def test_a_sticky_folder_above_is_fine_and_within_is_not(tmp_path: Path, looking) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    sticky = stat.S_IFDIR | 0o1777
    assert distrust(inner, looking(tmp_path, mode=sticky)) == ""
    assert "can be written by everybody" in distrust(tmp_path, looking(inner, mode=sticky))


def test_links_are_followed_and_everything_on_their_way_counts(tmp_path: Path, looking) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/../real")
    assert distrust(tmp_path / "link/deep") == ""
    assert "belongs to the user 7" in distrust(tmp_path / "link/deep", looking(tmp_path / "real", owner=7))
    assert "belongs to the user 7" in distrust(tmp_path / "link/deep", looking(tmp_path / "link", owner=7))
    (tmp_path / "real/deep/out.py").symlink_to(tmp_path / "outside.py")
    (tmp_path / "outside.py").write_text("")
    assert "belongs to the user 7" in distrust(tmp_path / "real", looking(tmp_path / "outside.py", owner=7))
    (tmp_path / "elsewhere/code").mkdir(parents=True)
    (tmp_path / "elsewhere/code/plugin.py").write_text("")
    (tmp_path / "real/src").symlink_to(tmp_path / "elsewhere")
    assert distrust(tmp_path / "real") == ""
    assert "belongs to the user 7" in distrust(tmp_path / "real", looking(tmp_path / "elsewhere/code/plugin.py", owner=7))
    (tmp_path / "elsewhere/code/back").symlink_to(tmp_path / "real")
    assert distrust(tmp_path / "real") == ""
    (tmp_path / "round").symlink_to("round")
    assert "leads in a circle" in distrust(tmp_path / "round")
