"""What a plugin can do to the daemon, and what it cannot: real processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Daemon

HEAD = """
import os, threading, time
from pydantic import SecretStr
from mom_core import ControlSpec, Decision, FieldSpec, PluginSettings, Scope, Unit, hookimpl

class Base:
    def __init__(self, settings, context):
        self.settings, self.context = settings, context
"""

KNOB = (
    HEAD
    + """
class Plugin(Base):
    def path(self):
        return self.context.root / "proc/knob"
    @hookimpl
    def mom_declare(self):
        yield FieldSpec("knob", Unit.COUNT, Scope.HOST, "A knob")
        yield ControlSpec("knob", Unit.COUNT, Scope.HOST, "A knob", "knob", 0, 100)
    @hookimpl
    def mom_collect_host(self):
        return {"knob": int(self.path().read_text())}
    @hookimpl
    def mom_evaluate(self, snapshot):
        return [Decision(snapshot.host.entity, "knob", 10)]
    @hookimpl
    def mom_read(self, targets):
        return {target: int(self.path().read_text()) for target in targets}
    @hookimpl
    def mom_write(self, changes):
        for change in changes:
            self.path().write_text(f"{change.value}\\n")
"""
)


def test_a_plugin_that_ends_the_process_cannot_be_contained_but_what_was_changed_is_put_back(daemon: Daemon) -> None:
    daemon.install("knob", KNOB)
    daemon.install(
        "ends", HEAD + "class Plugin(Base):\n    @hookimpl\n    def mom_report(self, report):\n        report.number > 3 and os._exit(9)\n"
    )
    daemon.configure("knob: {}", "ends: {}")
    assert daemon.start().wait(60) == 9
    assert (daemon.root / "proc/knob").read_text() == "10\n"
    daemon.configure("knob: {}")
    restored = daemon.mom("restore")
    assert restored.returncode == 0, restored.stderr
    assert (daemon.root / "proc/knob").read_text() == "60\n"


def test_threads_that_a_plugin_leaves_do_not_keep_mom_from_ending(daemon: Daemon) -> None:
    body = """
class Plugin(Base):
    @hookimpl
    def mom_setup(self):
        threading.Thread(target=time.sleep, args=(3600,), name="stray", daemon=False).start()
"""
    daemon.install("strays", HEAD + body)
    daemon.configure("strays: {}")
    process = daemon.start()
    daemon.wait_for(lambda: daemon.state_of("strays") == "ok")
    began = time.monotonic()
    process.terminate()
    assert process.wait(60) == 0
    assert time.monotonic() - began < 30
    assert "left behind: stray" in daemon.logged()


SECRET = 'open"sesame'  # noqa: S105  # nobody's


def test_a_secret_from_the_settings_is_in_nothing_that_mom_says(daemon: Daemon) -> None:
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
    daemon.install("talks", HEAD + body)
    daemon.configure(f"talks: {{token: '{SECRET}'}}")
    process = daemon.start()
    daemon.wait_for(lambda: daemon.state_of("talks") in {"failing", "set-aside"})
    said = [
        (daemon.directory / "run_directory/status.json").read_text(),
        *(daemon.mom(*verb).stdout for verb in (("config", "show"), ("config", "show", "--json"), ("status",), ("status", "--json"))),
        daemon.mom("doctor").stdout,
    ]
    process.terminate()
    process.wait(60)
    log = daemon.logged()
    assert "logging in with **********" in log
    assert "refused: **********" in log
    assert "refused: **********" in said[0]
    for text in (log, *said):
        assert "sesame" not in text
