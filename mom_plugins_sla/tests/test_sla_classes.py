"""Classes, and guests' classes."""

from pathlib import Path

import pytest

from mom_core import ConfigError, FieldSpec, Guest, GuestSettings, PluginContext, Portion, Problem, Severity, Snapshot, load_config
from mom_devkit import declared
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.classes import READY, Assigned, ClassAssignment, ServiceClass, SlaGuestSettings, SlaSettings, safest

GIB = 1 << 20
IN_YAML, IN_METADATA = "the section guests of the YAML file", "the guest's metadata"


def written(name: str | None) -> GuestSettings:
    return SlaGuestSettings.model_validate({} if name is None else {"class": name})


@pytest.mark.parametrize(
    ("in_yaml", "metadata", "found"),
    [
        ("gold", "vapor", Assigned("gold", IN_YAML)),
        (None, "vapor", Assigned("vapor", IN_METADATA)),
        (None, None, Assigned("compute", "the default of the sla plugin")),
        ("silver", "vapor", Assigned("platinum", IN_YAML, "silver")),
        (None, "Gold", Assigned("platinum", IN_METADATA, "Gold")),
        (None, "", Assigned("platinum", IN_METADATA, "an empty name")),
        (None, "\x1b[2J" * 30, Assigned("platinum", IN_METADATA, ("\\x1b[2J" * 30)[:39] + "…")),
    ],
)
def test_yaml_comes_before_metadata_and_metadata_before_the_default(in_yaml: str | None, metadata: str | None, found: Assigned) -> None:
    rules = ClassAssignment(READY, "compute")
    properties = {} if metadata is None else {"sla_class": metadata}
    assert rules.of(Guest("1", "db-1", properties=properties), written(in_yaml)) == found


def test_without_a_default_guests_of_whom_nothing_tells_have_no_class() -> None:
    assert ClassAssignment(READY, None).of(Guest("1", "web"), written(None)) is None


def test_the_safest_class_is_the_one_under_which_least_can_be_done() -> None:
    assert safest(READY) == "platinum"
    assert safest({name: one for name, one in READY.items() if name != "platinum"}) == "gold"
    large = ServiceClass(guarantee=Portion.parse("64GiB"))
    assert safest({"a": ServiceClass(), "large": large, "vapor": READY["vapor"]}) == "large"


def test_guests_have_the_fields_of_their_class() -> None:
    plugin = SlaPlugin(SlaSettings(default="gold"), PluginContext(name="sla"))
    guests = [Guest("1", "a"), Guest("2", "b", properties={"sla_class": "vapor"})]
    first = plugin.mom_collect_guests(guests)
    assert first["1"]["mem_guarantee_share"] == 0.75
    assert "mem_guarantee" not in first["1"], "a share of what is not known yet"
    snapshot = Snapshot(guests={guest.id: Guest(guest.id, guest.name, {"balloon_max": 8 * GIB}) for guest in guests})
    assert list(plugin.mom_problems(snapshot)) == []
    fields = plugin.mom_collect_guests(guests)
    assert fields["1"] == {
        "sla_class": "gold", "sla_class_by": "the default of the sla plugin", "mem_guarantee": 6 * GIB, "mem_guarantee_share": 0.75,
        "priority": 70, "reclaim_cost": 4.0, "may_offload": 1, "cpu_share": 200, "io_share": 1.0,
        "may_pause": 0, "may_save": 0, "may_power_off": 0, "may_migrate": 1, "leave_warning": 30.0, "comes_back": 1,
    }  # fmt: skip
    assert (fields["2"]["mem_guarantee"], fields["2"]["may_power_off"], fields["2"]["leave_warning"]) == (0, 1, 60.0)
    assert fields["1"].keys() <= {spec.name for spec in declared(plugin, FieldSpec)}


def test_an_unknown_class_is_an_error_that_names_the_guest_and_what_there_is() -> None:
    plugin = SlaPlugin(SlaSettings(), PluginContext(name="sla"))
    guest = Guest("1", "db-1", properties={"sla_class": "goldd"})
    fields = plugin.mom_collect_guests([guest])["1"]
    assert fields["sla_class"] == "platinum"
    assert (
        fields["sla_class_by"]
        == "the guest's metadata, which names the class goldd: that class does not exist, so mom uses the safest class"
    )
    (problem,) = plugin.mom_problems(Snapshot(guests={"1": guest}))
    assert isinstance(problem, Problem)
    assert (problem.severity, str(problem.entity)) == (Severity.ERROR, "db-1")
    assert problem.message == "there is no class goldd (the guest's metadata): platinum, the safest class, replaces it"
    assert "known classes: platinum, gold, compute, vapor" in problem.hint


BAD = """
plugins:
  sla:
    {}
guests:
  "x": {{class: gold}}
"""


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ("classes: {a: {guarantee: 100%, may_save: true}}", ":4:", "guarantee is 100%, but may_save is true"),
        ("classes: {a: {guarantee: 120%}}", ":4:", "'120%' is more than 100%"),
        ("classes: {a: {priority: 101}}", ":4:", "must be at most 100"),
        ("classes: {a: {reclaim_cost: 1.0e-320}}", ":", "must be at least 0.001"),
        ("classes: {a: {io_share: 1.0e-300}}", ":", "must be at least 0.001"),
        ("classes: {a: {priorty: 10}}", ":4:19", "did you mean 'priority'?"),
        ("classes: {a b: {}}", ":", "is not a valid class name"),
        ("default: golden", ":", "there is no class 'golden'"),
    ],
)
def test_what_contradicts_itself_is_an_error_with_its_place(tmp_path: Path, settings: str, place: str, message: str) -> None:
    file = tmp_path / "mom.yaml"
    file.write_text(BAD.format(settings))
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    (problem,) = refused.value.problems
    assert message in str(problem)
    assert f"{file}{place}" in str(problem)


@pytest.mark.parametrize(("shared", "severity"), [(None, Severity.ERROR), ("/etc/mom/classes.yaml", Severity.WARNING)])
def test_a_class_that_the_section_guests_names_and_that_there_is_not_is_found_by_a_check(shared: str | None, severity: Severity) -> None:
    given = {"db*": {"class": "nonsense"}, "web*": {"class": "gold"}, "x": {"guarantee": "1GiB"}}
    context = PluginContext(name="sla", configuration=lambda: {"guests": given})
    settings = SlaSettings() if shared is None else SlaSettings(classes_file=Path(shared))
    (finding,) = SlaPlugin(settings, context).mom_check()
    assert finding.severity is severity
    assert "there is no class nonsense for db*" in finding.message
