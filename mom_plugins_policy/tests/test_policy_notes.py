"""Lasting notes: they remain in the next cycle and after a restart, and end with the guest."""

import dataclasses
import json
from pathlib import Path

import pytest
from policy_declared import declared

from mom_core import Decision, MomError, PluginContext, Problem, Snapshot, Unit
from mom_core.testing import snapshot
from mom_kvm import PolicyTexts
from mom_plugins_policy import PolicyPlugin

COUNT = '(with Guests g { (g.Remember "n" (+ 1 (g.Recall "n" 0))) (g.Control "n" (g.Recall "n")) })'


def guests(*names: str, incarnation: str = "", seconds: float = 0.0) -> Snapshot:
    made = snapshot(guests={name: {"size": 1} for name in names})
    told = {identity: dataclasses.replace(guest, incarnation=incarnation) for identity, guest in made.guests.items()}
    return dataclasses.replace(made, guests=told, monotonic=seconds)


def plugin(tmp_path: Path, text: str = COUNT) -> PolicyPlugin:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "mine.policy"
    path.write_text(text)
    context = PluginContext(name="policy", state_directory=tmp_path / "state", declarations=declared(guest={"size": Unit.KIB}))
    it = PolicyPlugin(PolicyPlugin.Settings(file=path), context)
    it.mom_setup()
    return it


def counted(it: PolicyPlugin, snap: Snapshot) -> dict[str, object]:
    items = [item for item in it.mom_evaluate(snap, ()) if isinstance(item, Decision | Problem)]
    return {item.entity.name: getattr(item, "value", item) for item in items if item.entity is not None}


def test_notes_last_across_cycles_and_restarts(tmp_path: Path) -> None:
    it = plugin(tmp_path)
    assert counted(it, guests("a", "b")) == {"a": 1, "b": 1}
    assert counted(it, guests("a", "b")) == {"a": 2, "b": 2}
    assert counted(plugin(tmp_path), guests("a", "b")) == {"a": 3, "b": 3}


def test_notes_go_with_the_guest(tmp_path: Path) -> None:
    it = plugin(tmp_path)
    counted(it, guests("a", "b"))
    counted(it, guests("b"))
    assert counted(it, guests("a", "b")) == {"a": 1, "b": 3}
    counted(it, guests())
    assert counted(it, guests("a", "b")) == {"a": 1, "b": 1}
    assert "b" in json.loads((tmp_path / "state" / "policy" / "notes.json").read_text())["content"]


def test_where_a_new_start_can_be_told_a_guest_may_be_away_for_a_while(tmp_path: Path) -> None:
    it = plugin(tmp_path)
    counted(it, guests("a", incarnation="pid 1"))
    counted(it, guests())
    assert counted(it, guests("a", incarnation="pid 1")) == {"a": 2}
    assert counted(it, guests("a", incarnation="pid 2")) == {"a": 1}
    for seconds in range(1, 3000, 5):
        counted(it, guests("b", seconds=seconds))
    assert counted(it, guests("a", incarnation="pid 2", seconds=3000.0)) == {"a": 2}
    for seconds in (3600, 7300):
        counted(it, guests("b", seconds=seconds))
    assert counted(it, guests("a", incarnation="pid 2", seconds=7300.0)) == {"a": 1}


def test_notes_stay_for_as_long_as_a_hypervisor_is_away_and_lists_no_guest(tmp_path: Path) -> None:
    it = plugin(tmp_path)
    counted(it, guests("a", "b", incarnation="1"))
    for hours in range(24):
        counted(it, guests(seconds=3600.0 * hours))
    assert counted(it, guests("a", incarnation="1", seconds=90_000.0)) == {"a": 2}
    assert counted(it, guests("a", "b", incarnation="1", seconds=91_000.0)) == {"a": 3, "b": 2}, "its list may have been short"


def test_a_disk_that_cannot_be_written_is_a_problem_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder belongs")
    it = plugin(tmp_path)
    assert counted(it, guests("a")) == {"a": 1}
    file = it._context.state_files[0]
    assert "cannot be written" in file.write_error
    (tmp_path / "state").unlink()
    assert counted(it, guests("a")) == {"a": 2}
    assert not file.write_error


@pytest.mark.parametrize("value", ['(* "x" 4095)', "(/ 1e308 1e-308)", "(with Guests g (with Guests h 1))", "Host"])
def test_a_value_that_cannot_be_kept_is_an_error(tmp_path: Path, value: str) -> None:
    it = plugin(tmp_path, f'(Host.Remember "n" {value})')
    (problem,) = [item for item in it.mom_evaluate(guests("a"), ()) if isinstance(item, Problem)]
    assert problem.message.startswith("type: ")
    assert it.mom_services()[PolicyTexts].memory() == {}


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    it = plugin(tmp_path, '(Host.Remember "k" 1)')
    counted(it, snapshot())
    path = tmp_path / "state" / "policy" / "notes.json"
    before = path.stat()
    counted(it, snapshot())
    assert path.stat() == before


def test_what_policies_remember_can_be_taken_to_another_run(tmp_path: Path) -> None:
    first = plugin(tmp_path / "one")
    counted(first, guests("a"))
    memory = first.mom_services()[PolicyTexts].memory()
    second = plugin(tmp_path / "two")
    second.mom_services()[PolicyTexts].set_memory(memory)
    assert counted(second, guests("a")) == {"a": 2}


@pytest.mark.parametrize("rubbish", [5, {"a": {"values": 3, "incarnation": ""}}])
def test_what_is_no_memory_is_refused_and_changes_nothing(tmp_path: Path, rubbish: object) -> None:
    it = plugin(tmp_path)
    counted(it, guests("a"))
    with pytest.raises(MomError, match="invalid notes"):
        it.mom_services()[PolicyTexts].set_memory(rubbish)
    assert counted(it, guests("a")) == {"a": 2}
