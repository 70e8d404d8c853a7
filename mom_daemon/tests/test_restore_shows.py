"""`mom restore` shows changes of an earlier mom with units, and only known ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mom_core import Config, ControlSpec, Entity, FieldSpec, LedgerEntry, Scope, Unit, hookimpl
from mom_core.ledger import Ledger
from mom_devkit import config_of

Verb = Callable[..., tuple[int, str, str]]

ENTRY = LedgerEntry(Entity(Scope.GUEST, "a", "a"), "size", 2 << 20, 1 << 20, "balloon", 0.0, found=(1 << 20) + 700_000)


class Balloon:
    def __init__(self, settings: object, context: object) -> None:
        pass

    @hookimpl
    def mom_declare(self) -> list[object]:
        return [FieldSpec("size", Unit.KIB, Scope.GUEST, ""), ControlSpec("size", Unit.KIB, Scope.GUEST, "", "size", gradual=1)]

    @hookimpl
    def mom_read(self) -> dict[object, object]:
        return {}

    @hookimpl
    def mom_write(self) -> None:
        pass


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    made = config_of(tmp_path, {"balloon": Balloon})
    monkeypatch.setattr("mom_daemon.restore.load_config", lambda path: made)
    return made


def test_sizes_are_shown_with_their_unit(config: Config, mom: Verb) -> None:
    Ledger.open(config.state_directory).record([ENTRY])
    code, out, _ = mom("restore", "--dry-run")
    assert code == 0
    assert "size was set to 1.00 GiB by mom, and would be restored to 2.00 GiB" in out
    assert "size no longer exists; its original value was 2.00 GiB" in mom("restore")[1]


@pytest.mark.parametrize("way", [["--dry-run"], []], ids=["looked at", "put back"])
@pytest.mark.parametrize(
    ("form", "said"), [([], "The changes of an earlier run of mom are unknown.\n"), (["--json"], "null\n")], ids=["text", "json"]
)
def test_a_damaged_ledger_is_not_nothing_to_put_back(config: Config, mom: Verb, way: list[str], form: list[str], said: str) -> None:
    (config.state_directory / "ledger.json").parent.mkdir(parents=True, exist_ok=True)
    (config.state_directory / "ledger.json").write_text("[")
    code, out, err = mom("restore", *way, *form)
    assert (code, out) == (1, said)
    assert "is damaged" in err


def test_a_program_is_told_in_json_also_where_nothing_is_put_back(config: Config, mom: Verb) -> None:
    for options in ((), ("--dry-run",), ("--if-unclean",)):
        code, out, _ = mom("restore", *options, "--json")
        assert (code, out.strip()) == (0, "[]")
    assert mom("restore", "--if-unclean")[1:] == ("Nothing to restore.\n", "")
