"""Classes and eviction in `mom status` and `mom explain`."""

from mom_core import Report, Snapshot, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_sla.presentation import ClassExplainer, EvictionExplainer, class_parts


def report_of(cycle: Snapshot) -> Report:
    return Report(1, cycle.time, "enforce", cycle, (), (), (), (), (), 0.01)


def status_of(*classes: str | None) -> str:
    cycle = snapshot(guests={f"g{number}": {"sla_class": name} for number, name in enumerate(classes)})
    return ", ".join(part.text for part in class_parts(report_of(cycle)))


def explanation_of(**fields: Value) -> str:
    cycle = snapshot(guests={"web": fields, "other": {"sla_class": fields.get("others_class")}})
    return " ".join(sentence.text for sentence in ClassExplainer().part(About(report_of(cycle), cycle.guests["web"])).sentences)


def test_the_status_counts_classes_the_most_frequent_first() -> None:
    assert status_of("gold", "silver", "silver", None) == "2 silver, 1 gold, 1 without class"
    assert status_of(None, None) == ""


def test_an_explanation_names_the_class_its_source_and_the_permitted_steps() -> None:
    assert explanation_of() == "", "no guest has a class here"
    assert explanation_of(
        sla_class="vapor", sla_class_by="the guest's metadata", may_pause=1, may_save=1, may_migrate=0, leave_warning=60.0
    ) == (
        "Its service class is vapor, according to the guest's metadata."
        " Its class allows it to be saved to disk or paused when the host stays full, 1 min after the announcement."
    )


def test_an_explanation_says_that_a_guest_has_no_class_if_other_guests_have_one() -> None:
    assert explanation_of(others_class="gold") == "It has no service class: neither the configuration nor its metadata names one."


def test_a_guest_that_has_to_go_is_told_so_and_one_that_stays_is_not() -> None:
    fields: dict[str, Value] = {"guest_eviction": "saved to disk in 40 s", "guest_eviction_error": "no room on the disk"}
    taken = snapshot(guests={"goes": fields, "stays": {"guest_eviction": "", "guest_eviction_error": ""}})
    goes, stays = (EvictionExplainer().part(About(report_of(taken), taken.guests[name])).sentences for name in ("goes", "stays"))
    assert [sentence.text for sentence in goes] == [
        "Step in progress or announced: saved to disk in 40 s.",
        "The last step failed: no room on the disk.",
    ]
    assert stays == []
