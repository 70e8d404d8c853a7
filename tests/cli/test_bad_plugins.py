"""Effects on the daemon of faulty plugins, and of a plugin that is installed while mom runs. Real processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from mom_on_files import Mom

from mom_devkit.plugin_new import write_project

HEAD = """
import os, threading, time
from pydantic import SecretStr
from mom_core import PluginSettings, hookimpl

class Base:
    def __init__(self, settings, context):
        self.settings, self.context = settings, context
"""

STRAY = """
    @hookimpl
    def mom_setup(self):
        threading.Thread(target=time.sleep, args=(3600,), name="stray", daemon=False).start()
"""


def test_threads_that_a_plugin_leaves_keep_neither_mom_nor_a_verb_from_ending(mom: Mom) -> None:
    mom.install("strays", f"{HEAD}class Plugin(Base):{STRAY}")
    mom.configure("strays: {}")
    mom.start()
    mom.wait_for(lambda: mom.state_of("strays") == "ok")
    began = time.monotonic()
    mom.stop()
    assert time.monotonic() - began < 30
    assert mom.logged("these threads did not end: stray")
    assert "these threads did not end: stray" in mom.process("doctor").stderr


SECRET = 'open"sesame'  # noqa: S105  # nobody's


def test_a_secret_from_the_settings_is_in_nothing_that_mom_says(mom: Mom) -> None:
    body = """
class Plugin(Base):
    class Settings(PluginSettings):
        token: SecretStr
        '''What opens the door.'''
    @hookimpl
    def mom_collect_host(self):
        secret = self.settings.token.get_secret_value()
        self.context.log.warning("logging in with %s", secret)
        try:
            raise ValueError("refused: " + secret)
        except ValueError:
            self.context.log.exception("it failed")
            raise
"""
    mom.install("talks", HEAD + body)
    mom.configure(f"talks: {{token: '{SECRET}'}}")
    mom.start()
    mom.wait_for(lambda: mom.state_of("talks") in {"failing", "set-aside"})
    said = [
        (mom.directory / "run/status.json").read_text(),
        *(mom(*verb).stdout for verb in (("config", "show"), ("config", "show", "--json"), ("status",), ("status", "--json"))),
        mom("doctor").stdout,
    ]
    mom.stop()
    log = mom.log.read_text()
    assert "logging in with **********" in log
    assert "refused: **********" in log
    assert "refused: **********" in said[0]
    for text in (log, *said):
        assert "sesame" not in text


VMSTAT = "allocstall_normal 10\npgscan_kswapd 400\noom_kill 3\n"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_that_is_installed_while_mom_runs_is_used_after_sighup(mom: Mom, tmp_path: Path) -> None:
    (mom.root / "proc/vmstat").write_text(VMSTAT)
    mom.install("quiet", "class Plugin:\n    def __init__(self, settings, context): pass\n")
    mom.configure("quiet: {}")
    process = mom.start()
    mom.wait_for(lambda: mom.state_of("quiet") == "ok")

    write_project("page-cache", "collector", tmp_path / "project")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", tmp_path / "project")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", mom.site, wheel)
    mom.configure("quiet: {}", "page-cache: {}")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.state_of("page-cache") == "ok")
    mom.wait_for(lambda: mom.status()["host"]["fields"].get("page_cache_oom_kills") == 3)
    mom.stop()
