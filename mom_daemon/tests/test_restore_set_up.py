"""`mom restore`: the plugins that it sets up, and its output."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mom_core import Config, ControlSpec, Entity, FieldSpec, Guest, LedgerEntry, PluginContext, PluginError, Scope, Unit, hookimpl
from mom_core.ledger import Ledger
from mom_daemon.restore import set_up
from mom_devkit import config_of

Verb = Callable[..., tuple[int, str, str]]

SIZE, WEIGHT = (ControlSpec(name, Unit.KIB, Scope.GUEST, "", name) for name in ("size", "weight"))
FIELDS = [FieldSpec(spec.name, Unit.KIB, Scope.GUEST, "") for spec in (SIZE, WEIGHT)]
ENTRIES = [LedgerEntry(Entity(Scope.GUEST, "a", "a"), "size", 100, 50, "size", 0.0)]


class Hypervisor:
    uri = "test:///"

    def guests(self) -> list[Guest]:
        return []


def plugin_of(**hooks: Callable[..., object]) -> type:
    made = {name: hookimpl(function) for name, function in hooks.items()}
    return type("Made", (), {"__init__": lambda self, settings, context: None, **made})


def control_plugin(*specs: ControlSpec | FieldSpec, **more: Callable[..., object]) -> type:
    hooks: Mapping[str, Callable[..., object]] = {"mom_read": lambda self: {}, "mom_write": lambda self: None}
    return plugin_of(mom_declare=lambda self: specs, **hooks, **more)


def fails(self: object) -> None:
    raise OSError("its disk is away")


MACHINE = plugin_of(mom_hypervisor=lambda self: Hypervisor())
RECORD = plugin_of(mom_declare=lambda self: FIELDS, mom_setup=fails)
PLUGINS = {"machine": MACHINE, "record": RECORD, "size": control_plugin(SIZE)}


def names(tmp_path: Path, entries: list[LedgerEntry] = ENTRIES, /, **plugins: Any) -> list[str]:
    made = set_up(config_of(tmp_path, {**PLUGINS, **plugins}), entries, PluginContext(serves=False))
    made.close(1.0)
    return [plugin.name for plugin in made.plugins]


def test_a_plugin_that_puts_nothing_back_is_not_set_up_and_its_fields_are_known(tmp_path: Path) -> None:
    assert names(tmp_path) == ["machine", "size"]


def test_a_plugin_that_declares_nothing_is_not_even_constructed(tmp_path: Path) -> None:
    """An evaluator may have ended mom."""

    def end(self: object, settings: object, context: object) -> None:
        raise SystemExit

    evaluator = type("Evaluator", (), {"__init__": end, "mom_evaluate": hookimpl(lambda self: [])})
    assert names(tmp_path, evaluator=evaluator) == ["machine", "size"]


def test_an_owner_that_cannot_be_set_up_keeps_no_other_one_from_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [*ENTRIES, ENTRIES[0]._replace(control="weight", plugin="weight")]
    assert names(tmp_path, both, weight=control_plugin(WEIGHT, mom_setup=fails)) == ["machine", "size"]
    assert "its disk is away" in " ".join(capsys.readouterr().err.split())


def test_a_collector_with_services_is_set_up_and_left_out_where_that_fails(tmp_path: Path) -> None:
    offers: Mapping[str, Callable[..., object]] = {"mom_services": lambda self: {}, "mom_declare": lambda self: []}
    assert names(tmp_path, platform=plugin_of(**offers)) == ["machine", "size", "platform"]
    assert names(tmp_path, platform=plugin_of(**offers, mom_setup=fails)) == ["machine", "size"]


def test_a_plugin_that_was_taken_out_of_the_configuration_puts_its_changes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"weight": control_plugin(WEIGHT), "other": MACHINE, "old": control_plugin(SIZE)}

    def load(source: Mapping[str, Mapping[str, object]]) -> Config:
        wanted = list(source["plugins"])
        if wanted == ["not_installed"]:
            raise PluginError("it is not installed", plugin="not_installed")
        return config_of(tmp_path, {name: installed[name] for name in wanted})

    monkeypatch.setattr("mom_daemon.restore.load_config", load)
    lost = [ENTRIES[0]._replace(control=f"{plugin}_control", plugin=plugin) for plugin in ("other", "not_installed")]
    lost += [ENTRIES[0]._replace(control="weight", plugin="weight"), ENTRIES[0]._replace(plugin="old")]
    assert names(tmp_path, lost) == ["machine", "size", "weight"], "another plugin has the control of `old` now"


@pytest.mark.parametrize("broken", [{"machine": plugin_of(mom_hypervisor=fails)}, {"size": control_plugin(SIZE, mom_setup=fails)}])
def test_without_the_hypervisor_or_any_owner_it_is_an_error(tmp_path: Path, broken: Mapping[str, type]) -> None:
    with pytest.raises(PluginError, match="its disk is away"):
        names(tmp_path, **broken)


@pytest.mark.parametrize("stands", [False, True])
def test_without_a_configuration_nothing_is_to_be_put_back_if_the_ledger_says_so(
    stands: bool, tmp_path: Path, mom: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/etc/mom may have been removed before the package."""
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.record(ENTRIES)
    if not stands:
        ledger.forget(ledger.entries.keys())
    monkeypatch.setattr("mom_daemon.restore.Config", lambda: Config(state_directory=tmp_path))
    code, out, err = mom("restore", "-c", tmp_path / "gone.yaml", "--as-left", tmp_path / "run")
    assert (code, out.strip()) == ((2, "") if stands else (0, "Nothing to restore."))
    assert ("gone.yaml" in err) is stands


ENTRY = LedgerEntry(Entity(Scope.GUEST, "a", "a"), "size", 2 << 20, 1 << 20, "balloon", 0.0, found=(1 << 20) + 700_000)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    made = config_of(tmp_path, {"balloon": control_plugin(FIELDS[0], SIZE)})
    monkeypatch.setattr("mom_daemon.restore.load_config", lambda path: made)
    return made


def test_sizes_are_shown_with_their_unit(config: Config, mom: Verb) -> None:
    Ledger.open(config.state_directory).record([ENTRY])
    code, out, _ = mom("restore", "--dry-run")
    assert code == 0
    assert "size was set to 1.00 GiB by mom, and would be restored to 2.00 GiB" in out
    assert "size no longer exists; its original value was 2.00 GiB" in mom("restore")[1]


@pytest.mark.parametrize("options", [["--dry-run"], [], ["--json"]], ids=" ".join)
def test_a_damaged_ledger_is_not_an_empty_one(config: Config, mom: Verb, options: list[str]) -> None:
    (config.state_directory / "ledger.json").parent.mkdir(parents=True, exist_ok=True)
    (config.state_directory / "ledger.json").write_text("[")
    code, out, err = mom("restore", *options)
    assert (code, out) == (1, "")
    assert "is damaged" in err


def test_a_program_is_told_in_json_also_where_nothing_is_put_back(config: Config, mom: Verb) -> None:
    for options in ((), ("--dry-run",), ("--if-unclean",)):
        code, out, _ = mom("restore", *options, "--json")
        assert (code, out.strip()) == (0, "[]")
    assert mom("restore", "--if-unclean")[1:] == ("Nothing to restore.\n", "")
