"""A group's classes, from its record to the host's file."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mom_core import MomError, PluginContext
from mom_kvm import ClassFiles, PolicyState, PolicyTexts
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import Opened

TEXT = "classes:\n  silver: {guarantee: 50%}  # as sold\n"


class Policies:
    """Policies that record changes."""

    def __init__(self) -> None:
        self.changed: list[Mapping[str, str | None]] = []

    def state(self) -> PolicyState:
        return PolicyState("1", {})

    def change(self, changes: Mapping[str, str | None], *, who: str) -> None:
        self.changed.append(changes)


def a_host(folder: Path) -> tuple[Policies, Callable[[Group], None]]:
    """Return a host's policies, and a function that puts a group's record in force."""
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
    """Reader of classes that refuses a file with a reason."""

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
