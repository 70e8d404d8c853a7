"""What a plugin can do to the daemon, and what it cannot: real processes."""

import time

from mom_on_files import Mom

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


def test_a_plugin_that_ends_the_process_cannot_be_contained_but_what_was_changed_is_put_back(mom: Mom) -> None:
    mom.install("knob", KNOB)
    (mom.root / "proc/knob").write_text("60\n")
    mom.install(
        "ends", HEAD + "class Plugin(Base):\n    @hookimpl\n    def mom_report(self, report):\n        report.number > 3 and os._exit(9)\n"
    )
    mom.configure("knob: {}", "ends: {}")
    assert mom.start().wait(60) == 9
    assert (mom.root / "proc/knob").read_text() == "10\n"
    mom.configure("knob: {}")
    restored = mom("restore")
    assert restored.returncode == 0, restored.stderr
    assert (mom.root / "proc/knob").read_text() == "60\n"


STRAY = """
    @hookimpl
    def mom_setup(self):
        threading.Thread(target=time.sleep, args=(3600,), name="stray", daemon=False).start()
"""


def test_threads_that_a_plugin_leaves_do_not_keep_mom_from_ending(mom: Mom) -> None:
    mom.install("strays", f"{HEAD}class Plugin(Base):{STRAY}")
    mom.configure("strays: {}")
    mom.start()
    mom.wait_for(lambda: mom.state_of("strays") == "ok")
    began = time.monotonic()
    mom.stop()
    assert time.monotonic() - began < 30
    assert mom.logged("left behind: stray")


def test_nor_do_they_keep_a_mom_from_ending_that_could_not_start(mom: Mom) -> None:
    mom.install("strays", f"{HEAD}class Plugin(Base):{STRAY}")
    mom.install("fails", f"{HEAD}class Plugin(Base):\n    @hookimpl\n    def mom_setup(self):\n        raise ValueError('not today')\n")
    mom.configure("strays: {}", "fails: {}")
    assert mom.start().wait(60) == 2
    assert mom.logged("mom_setup failed: ValueError: not today")
    assert mom.logged("left behind: stray")


def test_nor_do_they_keep_a_verb_from_ending(mom: Mom) -> None:
    knob = mom.root / "proc/knob"
    knob.write_text("60\n")
    mom.install("knob", KNOB + STRAY)
    mom.configure("knob: {}")
    process = mom.start()
    mom.wait_for(lambda: knob.read_text() == "10\n")
    process.kill()
    process.wait(60)
    for verb, code in (("doctor", {0, 1}), ("restore", {0})):
        done = mom.process(verb)
        assert done.returncode in code, done.stderr
        assert "left behind: stray" in done.stderr
    assert knob.read_text() == "60\n"


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
