"""A group's classes, from the operator's file to the host's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mom_core import InForce, MomError, PluginContext
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.group_verbs import checked_classes
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import Opened
from mom_toolkit import ClassFiles, PolicyState, PolicyTexts

TEXT = "classes:\n  silver: {guarantee: 50%}  # as sold\n"


def test_a_file_of_classes_is_taken_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(TEXT)
    assert checked_classes(file) == TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {silver: {guarantee: 500%}}", "more than all of it"),
        ("classes: {silver: {priorty: 1}}", "did you mean 'priority'"),
        ("classes: {silver: {warning: 5s}}", "nothing may be done to such guests"),
        ("classes: {'s r': {}}", "no name for a class"),
        ("silver: {guarantee: 50%}", "silver"),
        ("classes: {}", "has no classes"),
        ("classes: {silver: 5}", "silver"),
        ("classes: {silver: {}, silver: {}}", "silver"),
        ("", "must be"),
        ("a: [", "classes.yaml:1"),
    ],
)
def test_a_wrong_one_is_refused_before_anybody_has_it(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(text)
    with pytest.raises(MomError) as refused:
        checked_classes(file)
    assert str(file) in refused.value.message
    assert message in refused.value.message


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_bytes(b"classes: {a\xff: {}}")
    for path in (file, tmp_path, Path("/dev/zero")):
        with pytest.raises(MomError):
            checked_classes(path)


def test_the_hosts_file_follows_the_groups_record(tmp_path: Path) -> None:
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), PluginContext(name="fleet", state_directory=tmp_path))
    file = tmp_path / "fleet" / "classes.yaml"
    plugin._prepare_classes("")()
    assert not file.exists()
    plugin._prepare_classes(TEXT)()
    assert file.read_text() == TEXT
    before = file.stat()
    plugin._prepare_classes(TEXT)()
    assert file.stat() == before, "what has not changed is not written"
    file.write_bytes(b"\xff")
    plugin._prepare_classes(TEXT)()
    assert file.read_text() == TEXT
    plugin._prepare_classes("")()
    assert not file.exists()
    file.mkdir()
    with pytest.raises(MomError, match="cannot be kept"):
        plugin._prepare_classes(TEXT)()


def test_policies_stay_as_they_are_when_the_disk_does_not_take_the_classes(tmp_path: Path) -> None:
    changed: list[object] = []

    class Policies:
        def state(self) -> PolicyState:
            return PolicyState("1", {})

        def change(self, changes: Mapping[str, str | None], *, who: str) -> None:
            changed.append(changes)

    context = PluginContext(name="fleet", state_directory=tmp_path, in_force=InForce(services={PolicyTexts: (Policies(),)}))
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), context)
    found = Opened(Group(policies={"60_fleet_a": "(defvar a 1)"}, classes=TEXT), 1, "U")
    in_the_way = tmp_path / "fleet" / "classes.new"
    in_the_way.mkdir(parents=True)
    with pytest.raises(MomError, match="cannot be kept"):
        plugin._apply("g", found, None)
    assert changed == []
    in_the_way.rmdir()
    plugin._apply("g", found, None)
    assert changed == [{"60_fleet_a": "(defvar a 1)"}]
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
        (Group(classes=TEXT), [], "no plugin reads them"),
        (Group(classes=TEXT), [""], ""),
        (Group(classes=TEXT), ["line 3: wrong"], "line 3: wrong"),
        (Group(classes=TEXT), ["another file", ""], ""),
    ],
)
def test_a_host_says_why_it_does_not_use_them(tmp_path: Path, record: Group, readers: list[str], said: str) -> None:
    in_force = InForce(services={ClassFiles: tuple(map(ClassesRead, readers))})
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), PluginContext(name="fleet", state_directory=tmp_path, in_force=in_force))
    assert said in plugin._classes_unused(record)
    assert bool(said) == bool(plugin._classes_unused(record))
