"""The public API changes only as far as the contract's version says: `contract_snapshot.py` beside this tells what has changed."""

from __future__ import annotations

import copy

import contract_snapshot
import pytest
from contract_snapshot import Api, api, judge, released

import mom_core

OLD: Api = {
    "Thing": {"": "dataclass()", "size": "int", "name": "str = …"},
    "make": {"": "function", "size": "any int", "return": "Thing"},
    "Can": {"": "protocol", "do": "(self, thing: Thing) -> None"},
    "Kind": {"": "enum(StrEnum)", "ONE": "one"},
    "Open": {"": "class()", "go": "method", "go(far)": "any int", "go(return)": "None"},
    "mom_collect": {"": "hook", "hypervisor": "any Hypervisor", "return": "Iterable[Value]"},
}


def verdict(contract: str, changed: Api) -> str:
    return judge(contract, changed, {(1, 0): OLD})[0]


def changed(name: str, /, **members: str | None) -> Api:
    new = copy.deepcopy(OLD)
    for member, shape in members.items():
        if shape is None:
            del new[name][member]
        else:
            new[name][member] = shape
    return new


def test_the_api_has_changed_only_as_far_as_the_version_says() -> None:
    wrong, changes = judge(mom_core.__version__, api(), released())
    assert not wrong, "\n".join([wrong, *changes])


def test_before_the_first_release_everything_may_change() -> None:
    assert judge("0.1.0", changed("Thing", size=None), {}) == ("", [])


@pytest.mark.parametrize(
    "new",
    [
        OLD | {"Other": {"": "class()"}},
        OLD | {"mom_new": {"": "hook", "return": "None"}},
        changed("Thing", colour="str = …"),
        changed("make", colour="key str = …"),
        changed("Kind", TWO="two"),
        changed("mom_collect", guests="any Sequence[Guest]"),
        changed("Open", **{"go(fast)": "key bool = …"}),
    ],
)
def test_what_is_added_needs_the_next_minor_version(new: Api) -> None:
    assert verdict("1.0", new) == "the version must become 1.1"
    assert verdict("1.1", new) == ""
    assert verdict("2.0", new) == ""


@pytest.mark.parametrize(
    "new",
    [
        {name: members for name, members in OLD.items() if name != "Thing"},
        changed("Thing", size=None),
        changed("Thing", size="float"),
        changed("Thing", colour="str"),
        changed("Thing", name="str"),
        changed("make", colour="any str"),
        changed("make", **{"return": "Other"}),
        changed("Can", undo="(self) -> None"),
        changed("Can", do="(self, thing: Thing, how: str = '') -> None"),
        changed("Kind", ONE="1"),
        changed("mom_collect", hypervisor=None),
        changed("Open", **{"go(fast)": "any bool"}),
        OLD | {"Thing": {"": "dataclass()", "name": "str = …", "size": "int"}},
        OLD | {"make": {"": "class()"}},
    ],
)
def test_what_breaks_plugins_needs_the_next_major_version(new: Api) -> None:
    for contract in ("1.0", "1.1", "1.9"):
        assert verdict(contract, new) == "the version must become 2.0"
    assert verdict("2.0", new) == ""


@pytest.mark.parametrize("new", [changed("make", size="any int = …"), changed("mom_collect", **{"return": "Iterable[Other | Value]"}), OLD])
def test_what_nobody_can_trip_over_needs_no_new_version(new: Api) -> None:
    assert verdict("1.0", new) == ""


def test_an_unchanged_api_needs_nothing_and_a_version_never_goes_back() -> None:
    assert verdict("1.0", OLD) == ""
    assert "older than 1.0, which is released" in verdict("0.9", OLD)


def test_a_release_is_kept_once_and_never_changed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(contract_snapshot, "FOLDER", tmp_path)
    monkeypatch.setattr(contract_snapshot, "api", lambda: OLD)
    monkeypatch.setattr(mom_core, "__version__", "1.0.0")
    contract_snapshot.write("1.0", OLD, tmp_path)
    kept = (tmp_path / "1.0.json").read_text()
    assert contract_snapshot.main(["--release"]) == 0
    assert "stays as it is" in capsys.readouterr().out
    monkeypatch.setattr(contract_snapshot, "api", lambda: changed("Thing", colour="str = …"))
    assert contract_snapshot.main(["--release"]) == 1
    assert "refused: the version must become 1.1" in capsys.readouterr().out
    assert (tmp_path / "1.0.json").read_text() == kept
    monkeypatch.setattr(mom_core, "__version__", "1.1.0")
    assert contract_snapshot.main(["--release"]) == 0
    assert released()[(1, 1)]["Thing"]["colour"] == "str = …"
