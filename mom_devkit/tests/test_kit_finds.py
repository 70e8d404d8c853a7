"""The conformance kit finds faults: each wrong plugin has one fault, and one check reports it."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import SecretStr

from mom_core import (
    Change,
    ConfigError,
    ControlSpec,
    DefaultPolicy,
    FieldSpec,
    Finding,
    Guest,
    GuestColumn,
    GuestGone,
    PluginContext,
    PluginSettings,
    Scope,
    Severity,
    Size,
    Unit,
    hookimpl,
)
from mom_daemon import About, Explainer, ExplanationPart
from mom_devkit import FakeHypervisor, check_plugin, config_of, wait_until
from mom_devkit.conformance import CHECKS, subject
from mom_devkit.conformance.statements import fault_of, missing_of

KNOB = {"proc/knob": "60\n"}


class Knob:
    """Controller without faults, and base of the wrong ones."""

    unit = Unit.COUNT
    low: float | None = 0
    high: float | None = 100

    class Settings(PluginSettings):
        """No settings."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self.settings, self.context = settings, context
        self.path = context.root / "proc/knob"

    @hookimpl
    def mom_declare(self):
        yield FieldSpec("knob", self.unit, Scope.HOST, "A knob", "/proc/knob")
        yield ControlSpec("knob", self.unit, Scope.HOST, "A knob", "knob", self.low, self.high)

    @hookimpl
    def mom_check(self):
        return [Finding(Severity.OK, "knob", "it is fine")]

    @hookimpl
    def mom_collect_host(self):
        return {"knob": int(self.path.read_text())} if self.path.exists() else {}

    @hookimpl
    def mom_read(self, targets):
        return dict.fromkeys(targets, int(self.path.read_text())) if self.path.exists() else {}

    @hookimpl
    def mom_write(self, changes):
        for change in changes:
            self.path.write_text(f"{change.value}\n")


def wrong(**members: Any) -> type:
    """Return a plugin class with these hooks or members replaced."""
    return type("Wrong", (Knob,), {name: marked(value) for name, value in members.items()})


def marked(member: Any) -> Any:
    if isinstance(member, staticmethod):
        return staticmethod(hookimpl(member.__func__))
    return hookimpl(member) if callable(member) else member


def failed(findings):
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def said(plugin_class: type, check: str, **given) -> str:
    """Return the errors of a check in one text."""
    given.setdefault("host", KNOB)
    return "; ".join(finding.message for finding in failed(check_plugin(plugin_class, name="knob", checks=[check], **given)))


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "packaging"])
def test_a_plugin_without_faults_passes(check: str) -> None:
    assert said(Knob, check) == ""


def test_a_constructor_that_needs_the_host_or_writes_is_found() -> None:
    class Eager(Knob):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            self.path.read_text()

    class Writes(Knob):
        def __init__(self, settings, context):
            super().__init__(settings, context)
            context.state_directory.mkdir(parents=True)

    assert "FileNotFoundError" in said(Eager, "declarations")
    assert "writes files" in said(Writes, "declarations")


def writing(plugin: Knob) -> dict[str, int]:
    plugin.path.write_text("1\n")
    return {"knob": 1}


def asking_each(plugin: Knob, hypervisor: FakeHypervisor, guests: Sequence[Guest]) -> dict[str, object]:
    """Fail for all guests if one is gone."""
    return {guest.id: {} for guest in guests if hypervisor.guest(guest.entity)}


def never_back(plugin: Knob, changes: Sequence[Change]) -> None:
    """Write all values except the original one."""
    Knob.mom_write(plugin, [change for change in changes if change.value != 60])


class Mumbles(Explainer):
    """Explainer that returns numbers instead of sentences."""

    def part(self, about: About) -> ExplanationPart:
        return ExplanationPart([5])  # type: ignore[list-item]  # as a plugin without types may give it


def refusing(plugin: Knob, changes: Sequence[Change]) -> None:
    """Raise the error of the write."""
    raise PermissionError("no")


@pytest.mark.parametrize(
    ("check", "members", "message"),
    [
        ("declarations", {"mom_colect_host": lambda self: {}}, "there is no hook mom_colect_host"),
        ("declarations", {"mom_report": lambda self, rapport: None}, "rapport"),
        ("declarations", {"__doc__": None}, "no docstring"),
        ("declarations", {"low": 9, "high": 1}, "a minimum above its maximum"),
        ("results", {"mom_collect_host": lambda self: {"knob": "sixty"}}, "should be a number"),
        ("results", {"mom_report": lambda self: int("disk")}, "ValueError: invalid literal"),
        ("results", {"mom_setup": lambda self: signal.signal(signal.SIGTERM, signal.SIG_IGN)}, "signal only works in main thread"),
        ("results", {"mom_check": lambda self: [5]}, "mom_check returned int instead of Finding"),
        ("results", {"mom_status": staticmethod(lambda report: int("disk"))}, "mom_status failed: ValueError: invalid literal"),
        ("results", {"mom_suggest": staticmethod(lambda root: 5)}, "mom_suggest returned int instead of Suggestion"),
        ("results", {"mom_explainer": staticmethod(Mumbles)}, "has no attribute 'place'"),
        ("changing_guests", {"mom_collect_guests": asking_each}, "with a guest that ended within the cycle, "),
        ("observing", {"mom_collect_host": writing}, "proc/knob"),
        ("undo", {"mom_write": never_back}, "not undone at a clean stop: it was 60, and is 45"),
        ("undo", {"mom_write": refusing}, "mom_write: PermissionError: no"),
        ("undo", {"mom_collect_host": lambda self: {"knob": 60}}, "was set to 45, and its field knob says 60"),
    ],
)
def test_a_plugin_that_is_wrong_in_one_way_is_told_so(check: str, members: dict[str, Any], message: str) -> None:
    assert message in said(wrong(**members), check)


def test_settings_without_a_word_and_secrets_in_plain_text_are_found() -> None:
    class Told(Knob):
        class Settings(PluginSettings):
            size: Size = 1
            password: str = ""
            """Secret setting."""

    text = said(Told, "declarations")
    assert "the setting size is not described" in text
    assert "password sounds like a secret" in text


def test_wrong_settings_are_refused_in_the_words_of_a_configuration() -> None:
    class Configured(Knob):
        class Settings(PluginSettings):
            folder: Path = Path("/nowhere")
            size: Size = 1 << 20

    wrong = {"folder": 3, "size": 2_000_000, "sise": []}
    findings = check_plugin(Configured, name="knob", settings=wrong, host=KNOB)
    with pytest.raises(ConfigError) as refused:
        config_of(Path("/nowhere"), {"knob": Configured}, {"knob": wrong})
    assert [finding.message for finding in findings] == [str(problem) for problem in refused.value.problems]
    assert len(findings) == 3


class Forgetful(Knob):
    """Controller that returns the value that it has set, instead of reading it."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.memory = 60

    @hookimpl
    def mom_read(self, targets):
        return dict.fromkeys(targets, self.memory)

    @hookimpl
    def mom_write(self, changes):
        super().mom_write(changes)
        self.memory = changes[-1].value


def test_what_a_plugin_only_remembers_is_not_undone_after_a_crash() -> None:
    assert "not undone after a crash: it was 60" in said(Forgetful, "undo")


def test_a_controller_that_writes_nothing_is_wrong() -> None:
    def writes(self: Knob, changes: Sequence[Change]) -> None:
        """Write nothing."""

    assert "knob was never set (45: failed mom set the control, but its value 60 did not change" in said(wrong(mom_write=writes), "undo")


def test_a_control_that_could_not_be_tried_is_told_not_passed_over() -> None:
    (finding,) = check_plugin(Knob, name="knob", checks=["undo"], host={"proc/other": ""})
    assert "knob was not set: its field knob is unknown" in finding.message


@pytest.mark.long
def test_what_is_left_running_or_open_is_found() -> None:
    ended, kept = threading.Event(), []

    def starts(self: Knob) -> None:
        threading.Thread(target=ended.wait, name="stray", daemon=True).start()

    def opens(self: Knob) -> dict[str, int]:
        kept.append(tempfile.TemporaryFile())  # noqa: SIM115  # left open on purpose
        return {}

    try:
        assert "leaves threads running: stray" in said(wrong(mom_setup=starts), "traces")
        assert "leaves open:" in said(wrong(mom_setup=opens), "traces")
        assert "leaves open:" in said(wrong(mom_collect_host=opens), "traces")
    finally:
        ended.set()
        for file in kept:
            file.close()


def test_changes_to_the_process_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def moves(self: Knob) -> None:
        os.chdir(self.context.root)
        os.environ["KNOB_WAS_HERE"] = "1"
        os.umask(0o077)

    monkeypatch.setenv("KNOB_WAS_HERE", "0")
    monkeypatch.chdir(Path.cwd())
    mask = os.umask(0o022)
    try:
        text = said(wrong(mom_setup=moves), "traces")
    finally:
        os.umask(mask)
    for what in ("the working directory", "the environment (KNOB_WAS_HERE)", "the umask"):
        assert f"it changes {what}" in text


@pytest.mark.long
def test_a_hung_teardown_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    usual = subject.config_of
    monkeypatch.setattr(subject, "config_of", lambda *given, **more: usual(*given, **{**more, "stop_timeout": 1.0}))
    try:
        text = said(wrong(mom_teardown=lambda self: ended.wait(60)), "traces")
    finally:
        ended.set()
    assert text == "it does not end in time: its call of mom_teardown has not returned"


def test_a_secret_that_is_shown_is_found() -> None:
    class Talks(Knob):
        class Settings(Knob.Settings):
            token: SecretStr = SecretStr("")
            """Secret setting."""

        settings: Settings

        @hookimpl
        def mom_collect_host(self):
            self.context.log.warning("trying %s", self.settings.token.get_secret_value())
            return {}

    assert "a secret from its settings is in its log" in said(Talks, "traces")
    assert "is in its log" in said(Talks, "traces", settings={"token": "open sesame"})


def test_a_reload_that_fails_is_found() -> None:
    taken: list[object] = []

    def take(self: Knob) -> None:
        if taken:
            raise OSError("address in use")
        taken.append(self)

    assert "address in use" in said(wrong(mom_setup=take, mom_teardown=lambda self: taken.clear()), "reload")


def test_a_hypervisor_that_lists_badly_or_ignores_ghosts_is_found() -> None:
    class Careless(FakeHypervisor):
        def set_balloon(self, guest, target_kib):
            pass

        def balloon_sizes(self, guests):
            raise GuestGone("one of them is gone")

        def guests(self):
            return [*super().guests(), *super().guests()]

    text = said(wrong(mom_hypervisor=lambda self: Careless()), "hypervisor")
    for what in (
        "two guests have the same id",
        "set_balloon of a guest that is gone has no effect",
        "balloon_sizes of a guest that is gone raises",
    ):
        assert what in text


def test_the_real_root_is_never_worked_on() -> None:
    with pytest.raises(Exception, match="never uses /"):
        check_plugin(Knob, host=Path("/"))


@pytest.mark.processes
def test_loading_the_pytest_plugin_imports_next_to_nothing() -> None:
    import subprocess

    program = "import sys, mom_devkit.pytest_plugin; print(sum(name.startswith(('mom_core', 'pydantic')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 4


def control(**changes: Any) -> ControlSpec:
    usual = {"name": "size", "unit": Unit.COUNT, "scope": Scope.GUEST, "description": "How large.", "field": "size"}
    return ControlSpec(**{**usual, **changes})


def column(**changes: Any) -> GuestColumn:
    return GuestColumn(**{"name": "heat", "fields": ("heat",), "unit": Unit.PERCENT, "about": "how hot it is", **changes})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, "is no FieldSpec"),
        (FieldSpec("no name", Unit.KIB, Scope.HOST, ""), "a name that policies cannot use"),
        (FieldSpec("class", Unit.KIB, Scope.HOST, ""), "a name that policies cannot use"),
        (FieldSpec("size", "furlongs", Scope.HOST, ""), "a Unit and a Scope"),  # type: ignore[arg-type]  # a mistake on purpose
        (FieldSpec("size", Unit.KIB, Scope.HOST, ""), "is not described"),
        (DefaultPolicy("size", "()"), "a name without a number"),
        (control(field=""), "field that holds"),
        (control(unit=Unit.TEXT, minimum=1), "is no number"),
        (control(minimum=2, maximum=1), "minimum above its maximum"),
        (column(name=""), "a name"),
        (column(fields=()), "fields"),
        (column(metric="mom_cycles_total"), "metric"),
    ],
    ids=str,
)
def test_a_declaration_that_mom_cannot_use_is_named(spec: object, message: str) -> None:
    fault, _ = fault_of(spec) or ("", "")
    assert message in fault
    assert fault_of(control(minimum=1, maximum=5)) is None


class Notes(Protocol):
    def read(self) -> str: ...

    def write(self, text: str) -> None: ...


@pytest.mark.parametrize(
    ("kind", "offer", "message"),
    [(int, 5, "is no protocol"), (Notes, 5, "it lacks read, write"), (Notes, type("N", (), {"read": 1, "write": 1}), "")],
)
def test_an_offer_must_have_all_of_its_protocol(kind: object, offer: object, message: str) -> None:
    missing = missing_of(kind, offer)
    assert message in missing if message else not missing


def test_it_returns_the_first_true_value_or_explains() -> None:
    looks = iter([None, 0, "there", "later"])
    assert wait_until(lambda: next(looks)) == "there"
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: its log"):
        wait_until(lambda: False, lambda: "its log", 0.01)
    with pytest.raises(AssertionError, match="a sentence"):
        wait_until(lambda: False, "a sentence", 0.01)
