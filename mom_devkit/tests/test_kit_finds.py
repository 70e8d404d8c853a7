"""The conformance kit finds what it is there to find: each wrong plugin is wrong in one way, and one check says so."""

from __future__ import annotations

import locale
import os
import signal
import sys
import tempfile
import threading
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from pydantic import SecretStr

from mom_core import (
    ConfigError,
    ControlSpec,
    Decision,
    FieldSpec,
    GuestGone,
    LedgerEntry,
    Outcome,
    PluginContext,
    PluginSettings,
    Scope,
    Size,
    Status,
    Unit,
    hookimpl,
)
from mom_core.cli import verbs
from mom_devkit import FakeHypervisor, check_plugin, config_of
from mom_devkit.conformance import CHECKS, conduct, failed, run_check, subject_of

KNOB = {"proc/knob": "60\n"}


class Knob:
    """A controller without faults, from which the wrong ones derive."""

    unit = Unit.COUNT
    low: float | None = 0
    high: float | None = 100

    class Settings(PluginSettings):
        """None of its own."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self.settings, self.context = settings, context
        self.path = context.root / "proc/knob"

    @hookimpl
    def mom_fields(self):
        return [FieldSpec("knob", self.unit, Scope.HOST, "A knob", "/proc/knob")]

    @hookimpl
    def mom_controls(self):
        return [ControlSpec("knob", self.unit, Scope.HOST, "A knob", "knob", self.low, self.high)]

    @hookimpl
    def mom_collect_host(self):
        return {"knob": int(self.path.read_text())} if self.path.exists() else {}

    @hookimpl
    def mom_control(self, decisions):
        return [self.set(decision) for decision in decisions]

    @hookimpl
    def mom_restore(self, entries):
        return [self.put_back(entry) for entry in entries]

    def put_back(self, entry: LedgerEntry) -> Outcome:
        decision = Decision(entry.entity, entry.control, entry.before)
        found = int(self.path.read_text())
        if not entry.explains(found):
            return Outcome(decision, found, found, Status.LEFT_ALONE)
        return self.set(decision)

    def set(self, decision: Decision) -> Outcome:
        try:
            before = int(self.path.read_text())
            if before == decision.value:
                return Outcome(decision, before, before, Status.UNCHANGED)
            self.path.write_text(f"{decision.value}\n")
            return Outcome(decision, before, int(self.path.read_text()), Status.APPLIED)
        except OSError as error:
            return Outcome(decision, None, None, Status.FAILED, str(error))


def said(plugin_class: type, check: str, **given) -> str:
    """The errors that a check gives, in one text."""
    given.setdefault("host", KNOB)
    return "; ".join(finding.message for finding in failed(check_plugin(plugin_class, name="knob", checks=[check], **given)))


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "packaging"])
def test_a_plugin_without_faults_passes(check: str) -> None:
    assert said(Knob, check) == ""


SILENT = click.Command("silent")
NO_COMMAND = 7


def test_commands_that_are_none_or_say_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {"silent": "SILENT", "none": "NO_COMMAND", "gone": "NOWHERE"}
    points = [EntryPoint(name, f"{Knob.__module__}:{target}", verbs.GROUP) for name, target in targets.items()]
    points.append(EntryPoint("other", "not_of_this_plugin:command", verbs.GROUP))
    monkeypatch.setattr(conduct, "entry_points", lambda group: [point for point in points if point.group == group])
    text = said(Knob, "results")
    for what in ("command silent has no help", "command none is a int", "command gone cannot be imported"):
        assert what in text
    assert "other" not in text


def test_a_plugin_that_nobody_packaged_is_told_so() -> None:
    assert said(Knob, "packaging") == ""
    (finding,) = [f for f in check_plugin(Knob, name="knob", checks=["packaging"]) if "metadata" in f.message]
    assert finding.cure


def test_a_constructor_that_needs_the_host_or_takes_long_is_found() -> None:
    class Eager(Knob):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            self.path.read_text()

    class Writes(Knob):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            context.state_directory.mkdir(parents=True)

    class Slow(Knob):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            time.sleep(2.1)

    assert "FileNotFoundError" in said(Eager, "construction")
    assert "writes files" in said(Writes, "construction")
    assert "its constructor takes " in said(Slow, "construction")


def test_a_misspelt_hook_and_a_wrong_argument_are_found() -> None:
    misspelt = type("Misspelt", (Knob,), {"mom_colect_host": hookimpl(lambda self: {})})
    assert "there is no hook mom_colect_host" in said(misspelt, "hooks")

    class Asks(Knob):
        @hookimpl
        def mom_report(self, rapport):
            pass

    assert "rapport" in said(Asks, "hooks")
    assert "no docstring" in said(type("Silent", (Knob,), {"__doc__": None}), "hooks")


def test_settings_without_a_word_and_secrets_in_plain_text_are_found() -> None:
    class Told(Knob):
        class Settings(PluginSettings):
            size: int = 1
            password: str = ""
            """What opens the door."""

    text = said(Told, "settings")
    assert "the setting size is not described" in text
    assert "password sounds like a secret" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 5, "high": 5}, "can only be 5"),
        ({"unit": Unit.FLAG}, "a flag from 0 to 100"),
        ({"low": 9, "high": 1}, "its minimum 9 is above its maximum 1"),
        ({"low": float("nan")}, "bounds must be finite numbers"),
        ({"high": "many"}, "bounds must be finite numbers"),
        ({"unit": "furlongs"}, "Unit and a Scope"),
        ({"unit": Unit.TEXT}, "is text and has bounds"),
    ],
)
def test_nonsense_in_declarations_is_found(changes: dict[str, object], message: str) -> None:
    assert message in said(type("Odd", (Knob,), changes), "declarations")


def test_a_field_that_others_have_in_another_unit_is_found() -> None:
    class OtherUnit(Knob):
        @hookimpl
        def mom_fields(self):
            return [*super().mom_fields(), FieldSpec("mem_free", Unit.BYTES, Scope.HOST, "What is free", "/proc/meminfo")]

    assert "the host field mem_free in B, which others have in KiB" in said(OtherUnit, "declarations")


def test_an_installed_plugin_is_known_by_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a wheel, above whose modules there is no pyproject.toml."""
    from mom_devkit.conformance import shape
    from mom_plugins_sim import SimPlugin

    monkeypatch.setattr(shape, "project_above", lambda file: None)
    assert [f.message for f in check_plugin(SimPlugin, name="sim", checks=["packaging"]) if "not found" in f.message] == []


@pytest.mark.parametrize("name", [5, None, "", "two words", "class"])
def test_a_field_with_an_impossible_name_is_found(name) -> None:
    class Named(Knob):
        @hookimpl
        def mom_fields(self):
            return [FieldSpec(name, Unit.COUNT, Scope.HOST, "x", "y"), FieldSpec("knob", Unit.COUNT, Scope.HOST, "x", "y")]

    assert said(Named, "declarations")


def test_values_of_another_type_and_fields_that_were_not_declared_are_found() -> None:
    class Wrong(Knob):
        @hookimpl
        def mom_collect_host(self):
            return {"knob": "sixty", "other": 1}

    text = said(Wrong, "results")
    assert "should be a number" in text
    assert "did not declare" in text


def test_hooks_that_raise_or_give_rubbish_are_found() -> None:
    class Raises(Knob):
        @hookimpl
        def mom_report(self):
            raise ValueError("no disk")

    class Rubbish(Knob):
        @hookimpl
        def mom_evaluate(self):
            return ["a decision"]

    assert "ValueError: no disk" in said(Raises, "results")
    assert "mom_evaluate gave a str" in said(Rubbish, "results")


def test_a_guest_that_costs_the_fields_of_all_others_is_found() -> None:
    class Brittle(Knob):
        @hookimpl
        def mom_collect_guests(self, hypervisor, guests):
            for guest in guests:
                hypervisor.guest(guest.entity)
            return {}

    assert "costs the fields of all" in said(Brittle, "guests_that_come_and_go")


def test_writing_while_mom_observes_is_found() -> None:
    class Writes(Knob):
        @hookimpl
        def mom_collect_host(self):
            self.path.write_text("1\n")
            return {"knob": 1}

    assert "proc/knob" in said(Writes, "observing")


class Configured(Knob):
    """Has settings of types that YAML knows only as text and lists."""

    class Settings(PluginSettings):
        """What there is to say."""

        folder: Path = Path("/nowhere")
        """A folder."""
        size: Size = 1 << 20
        """A size."""
        names: tuple[str, ...] = ()
        """Names."""


def test_settings_are_those_of_yaml_in_every_check() -> None:
    said_in_yaml: dict[str, object] = {"folder": "/srv", "size": "2MiB", "names": ["a", "b"]}
    assert [finding for check in CHECKS if check != "packaging" for finding in check_of(check, said_in_yaml)] == []


def check_of(check: str, settings: dict[str, object]) -> list[str]:
    """What one check of the kit finds, as a class of tests runs it."""
    with tempfile.TemporaryDirectory() as folder:
        subject = subject_of(Configured, Path(folder), "knob", settings, KNOB)
        return [finding.message for finding in failed(run_check(subject, check))]


def test_what_yaml_would_refuse_is_refused_in_the_same_words() -> None:
    wrong = {"folder": 3, "size": 2_000_000, "nmes": []}
    found = check_plugin(Configured, name="knob", settings=wrong, host=KNOB)
    with pytest.raises(ConfigError) as refused:
        config_of(Path("/nowhere"), {"knob": Configured}, {"knob": wrong})
    assert [finding.message for finding in found] == [str(problem) for problem in refused.value.problems]
    assert len(found) == 3
    assert "settings of knob: nmes: there is no such setting (did you mean 'names'?)" in [finding.message for finding in found]


class Forgetful(Knob):
    """Knows what stood there only as long as it runs."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.memory: dict[str, object] = {}

    def set(self, decision):
        outcome = super().set(decision)
        self.memory.setdefault(decision.control, outcome.before)
        return outcome

    def put_back(self, entry):
        decision = Decision(entry.entity, entry.control, entry.before)
        if entry.control not in self.memory:
            return Outcome(decision, None, None, Status.UNCHANGED)
        return super().put_back(entry)


class NeverBack(Knob):
    """Says that it put back."""

    def put_back(self, entry):
        return Outcome(Decision(entry.entity, entry.control, entry.before), None, entry.before, Status.APPLIED)


class Ruthless(Knob):
    """Puts back whatever stands there."""

    def put_back(self, entry):
        return self.set(Decision(entry.entity, entry.control, entry.before))


class Exact(Knob):
    """Puts back only what stands exactly as it was asked for."""

    def put_back(self, entry):
        found = int(self.path.read_text())
        decision = Decision(entry.entity, entry.control, entry.before)
        if found not in (entry.applied, entry.before):
            return Outcome(decision, found, found, Status.LEFT_ALONE, f"it was {entry.applied}")
        return self.set(decision)


class Rounds(Knob):
    """Its kernel takes multiples of 4 only."""

    def set(self, decision):
        before = int(self.path.read_text()) if self.path.exists() else None
        rounded = decision.value // 4 * 4
        if before in (None, rounded):
            return Outcome(decision, before, before, Status.FAILED if before is None else Status.UNCHANGED)
        self.path.write_text(f"{rounded}\n")
        return Outcome(decision, before, rounded, Status.APPLIED)


class RoundsAndSendsAgain(Rounds):
    """Compares with what was asked for, as a plugin does that does not know how its kernel rounds."""

    def set(self, decision):
        outcome = super().set(decision)
        unsure = outcome.status is Status.UNCHANGED and outcome.after != decision.value
        return Outcome(decision, outcome.before, outcome.after, Status.APPLIED) if unsure else outcome


class Silent(Knob):
    """Says nothing of what it did."""

    @hookimpl
    def mom_restore(self, entries):
        return []


class Raises(Knob):
    """Takes it for granted that the knob is there."""

    def set(self, decision):
        self.path.read_text()
        return super().set(decision)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Forgetful, "not undone after a crash: it was 60"),
        (NeverBack, "not undone after a clean stop: it was 60, and is 30"),
        (Ruthless, "put back over another process's change"),
        (Exact, "knob was not put back where the kernel had rounded it: left-alone it was 45"),
        (Silent, "did not say what came of it"),
        (Raises, "on what is not there raises FileNotFoundError"),
    ],
)
def test_an_undo_that_does_not_undo_is_found(plugin: type, message: str) -> None:
    assert message in said(plugin, "undo")


@pytest.mark.parametrize("plugin", [Rounds, RoundsAndSendsAgain])
def test_a_control_that_rounds_and_is_put_back_passes(plugin: type) -> None:
    assert check_plugin(plugin, name="knob", checks=["undo"], host=KNOB) == []


def test_a_control_that_could_not_be_tried_is_told_not_passed_over() -> None:
    (finding,) = check_plugin(Knob, name="knob", checks=["undo"], host={"proc/other": ""})
    assert "knob was not set: its present value, the field knob, is unknown" in finding.message


def test_what_is_left_running_or_open_is_found() -> None:
    ended = threading.Event()

    class Threads(Knob):
        @hookimpl
        def mom_setup(self):
            threading.Thread(target=ended.wait, name="stray", daemon=True).start()

    kept = []

    class Files(Knob):
        @hookimpl
        def mom_setup(self):
            kept.append(tempfile.TemporaryFile())  # noqa: SIM115  # left open on purpose

    class Grows(Knob):
        @hookimpl
        def mom_collect_host(self):
            kept.append(tempfile.TemporaryFile())  # noqa: SIM115  # left open on purpose
            return {}

    try:
        assert "leaves threads running: stray" in said(Threads, "traces")
        assert "leaves open:" in said(Files, "traces")
        assert "more files in 10 cycles" in said(Grows, "traces")
    finally:
        ended.set()
        for file in kept:
            file.close()


def test_changes_to_the_process_are_found_and_put_back(tmp_path: Path) -> None:
    class Moves(Knob):
        @hookimpl
        def mom_setup(self):
            os.chdir(self.context.root)
            os.environ["KNOB_WAS_HERE"] = "1"
            os.umask(0o077)
            locale.setlocale(locale.LC_ALL, "C.UTF-8")

    before = Path.cwd(), locale.setlocale(locale.LC_ALL), os.environ.get("KNOB_WAS_HERE")
    locale.setlocale(locale.LC_ALL, "C")
    try:
        text = said(Moves, "traces")
    finally:
        locale.setlocale(locale.LC_ALL, before[1])
    for what in ("working directory", "environment (KNOB_WAS_HERE)", "umask", "locale (C became C.UTF-8)"):
        assert what in text
    assert (Path.cwd(), locale.setlocale(locale.LC_ALL), os.environ.get("KNOB_WAS_HERE")) == before


def test_a_signal_handler_cannot_be_changed_from_a_plugins_thread() -> None:
    class Handles(Knob):
        @hookimpl
        def mom_setup(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGTERM)
    assert "signal only works in main thread" in said(Handles, "results")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_secret_that_is_shown_is_found() -> None:
    class Talks(Knob):
        class Settings(Knob.Settings):
            token: SecretStr = SecretStr("")
            """What opens the door."""

        settings: Settings

        @hookimpl
        def mom_collect_host(self):
            self.context.log.warning("trying %s", self.settings.token.get_secret_value())
            return {}

    assert "a secret from its settings stands in its log" in said(Talks, "secrets")
    assert "stands in its log" in said(Talks, "secrets", settings={"token": "open sesame"})


def test_a_reload_that_fails_is_found() -> None:
    taken: list[object] = []

    class Alone(Knob):
        @hookimpl
        def mom_setup(self):
            if taken:
                raise OSError("address in use")
            taken.append(self)

        @hookimpl
        def mom_teardown(self):
            taken.clear()

    assert "address in use" in said(Alone, "reload")


def test_a_hypervisor_that_lists_badly_or_ignores_ghosts_is_found() -> None:
    class Careless(FakeHypervisor):
        def set_balloon(self, guest, target_kib):
            pass

        def balloon_sizes(self, guests):
            raise GuestGone("one of them is gone")

        def guests(self):
            return [*super().guests(), *super().guests()]

    class Brings(Knob):
        @hookimpl
        def mom_hypervisor(self):
            return Careless()

    text = said(Brings, "hypervisor")
    for what in (
        "two guests have one id",
        "set_balloon of a guest that is gone does nothing",
        "balloon_sizes of a guest that is gone raises",
    ):
        assert what in text


def test_the_real_root_is_never_worked_on() -> None:
    with pytest.raises(Exception, match="never works on /"):
        check_plugin(Knob, host=Path("/"))


@pytest.mark.processes
def test_loading_the_pytest_plugin_imports_next_to_nothing() -> None:
    import subprocess

    program = "import sys, mom_devkit.pytest_plugin; print(sum(name.startswith(('mom_core', 'pydantic')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 4
