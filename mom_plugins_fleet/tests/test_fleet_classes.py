"""A group's classes, from the operator's file to the host's."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_core import MomError, PluginContext
from mom_kvm import ClassFiles, PolicyState, PolicyTexts
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import Opened
from mom_plugins_fleet.verbs.fleet import fleet

TEXT = "classes:\n  silver: {guarantee: 50%}  # as sold\n"


def a_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The group's policies when the file was set as its classes."""
    policies: dict[str, str] = {}

    async def change(_where: object, _store: object, _kind: object, _group: str, wanted: Callable[[None], Mapping[str, Any]]) -> int:
        policies.update(wanted(None)["policies"])
        return 1

    monkeypatch.setattr("mom_plugins_fleet.verbs.groups.change", change)
    monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, what: asyncio.run(what(None)))
    done = CliRunner().invoke(fleet, ["policy", "set", "g", "classes.yaml", str(file)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return policies


def test_a_file_of_classes_is_taken_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(TEXT)
    assert a_set(file, monkeypatch) == {"classes.yaml": TEXT}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"classes: {silver: {priorty: 1}}", "did you mean 'priority'"),
        (b"classes: {}", "has no classes"),
        (b"classes: {silver: {}}\nmore: 1", "has no classes"),
        (b"classes: {silver: {}, silver: {}}", "silver"),
        (b"a: [", "classes.yaml:1"),
        (b"classes: {a\xff: {}}", "is not valid UTF-8"),
    ],
)
def test_a_wrong_one_is_refused_before_any_host_has_it(tmp_path: Path, text: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "classes.yaml"
    file.write_bytes(text)
    with pytest.raises(MomError) as refused:
        a_set(file, monkeypatch)
    assert str(file) in refused.value.message
    assert message in refused.value.message


class Policies:
    """Takes policies, and keeps what was changed."""

    def __init__(self) -> None:
        self.changed: list[Mapping[str, str | None]] = []

    def state(self) -> PolicyState:
        return PolicyState("1", {})

    def change(self, changes: Mapping[str, str | None], *, who: str) -> None:
        self.changed.append(changes)


def a_host(folder: Path) -> tuple[Policies, Callable[[Group], None]]:
    """Its policies, and what puts a group's record in force there."""
    policies = Policies()
    context = PluginContext(name="fleet", state_directory=folder, offers={PolicyTexts: (policies,)})
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), context)
    return policies, lambda record: plugin.group.apply("g", Opened(record, 1, "U"), None)


def test_the_hosts_file_follows_the_groups_record(tmp_path: Path) -> None:
    _, follow = a_host(tmp_path)
    file, whole = tmp_path / "fleet" / "classes.yaml", Group(policies={"classes.yaml": TEXT})
    follow(Group())
    assert not file.exists()
    follow(whole)
    assert file.read_text() == TEXT
    before = file.stat()
    follow(whole)
    assert file.stat() == before, "what has not changed is not written"
    file.write_bytes(b"\xff")
    follow(whole)
    assert file.read_text() == TEXT
    follow(Group())
    assert not file.exists()
    file.mkdir()
    with pytest.raises(MomError, match="cannot store the group's classes"):
        follow(whole)


def test_policies_stay_as_they_are_when_the_disk_does_not_take_the_classes(tmp_path: Path) -> None:
    policies, follow = a_host(tmp_path)
    whole = Group(policies={"60_fleet_a": "(defvar a 1)", "classes.yaml": TEXT})
    in_the_way = tmp_path / "fleet" / "classes.new"
    in_the_way.mkdir(parents=True)
    with pytest.raises(MomError, match="cannot store the group's classes"):
        follow(whole)
    assert policies.changed == []
    in_the_way.rmdir()
    follow(whole)
    assert policies.changed == [{"60_fleet_a": "(defvar a 1)"}]
    assert (tmp_path / "fleet" / "classes.yaml").read_text() == TEXT


class ClassesRead:
    """What reads classes, and says why it does not use a file."""

    def __init__(self, why: str) -> None:
        self.why = why

    def why_unused(self, path: Path) -> str:
        assert path.name == "classes.yaml"
        return self.why


@pytest.mark.parametrize(
    ("record", "readers", "said"),
    [
        (Group(), [], ""),
        (Group(policies={"classes.yaml": TEXT}), [], "no plugin reads them"),
        (Group(policies={"classes.yaml": TEXT}), [""], ""),
        (Group(policies={"classes.yaml": TEXT}), ["line 3: wrong"], "line 3: wrong"),
        (Group(policies={"classes.yaml": TEXT}), ["another file", ""], ""),
    ],
)
def test_a_host_says_why_it_does_not_use_them(tmp_path: Path, record: Group, readers: list[str], said: str) -> None:
    offers = {ClassFiles: tuple(map(ClassesRead, readers))}
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), PluginContext(name="fleet", state_directory=tmp_path, offers=offers))
    assert said in plugin.group.why_classes_unused(record)
    assert bool(said) == bool(plugin.group.why_classes_unused(record))
