"""What is said of a guest's class in words."""

from __future__ import annotations

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_plugins_sla.explanation import ClassExplainer
from mom_plugins_sla.leaving.explanation import LeavingExplainer
from mom_toolkit import About


def said(**fields: Value) -> str:
    taken = snapshot(guests={"web": fields, "other": {"sla_class": fields.get("others_class")}})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    return " ".join(sentence.text for sentence in ClassExplainer().part(About(report, taken.guests["web"])).sentences)


def test_a_guests_class_is_told_with_who_said_it_and_what_may_be_done_to_it() -> None:
    assert said() == "", "no guest has a class here"
    assert said(sla_class="vapor", sla_class_by="the guest's metadata", may_pause=1, may_save=1, may_migrate=0, leave_warning=60.0) == (
        "It is of the service class vapor, by the guest's metadata."
        " When the host stays full, its class allows that it is saved to disk or paused, 1 min after that is announced."
    )


def test_a_guest_of_no_class_is_told_so_where_others_have_one() -> None:
    assert said(others_class="gold") == "It is of no service class: nothing says one for it."


def test_a_guest_that_has_to_go_is_told_so_and_one_that_stays_is_not() -> None:
    fields: dict[str, Value] = {"guest_leaving": "saved to disk in 40 s", "guest_leaving_error": "no room on the disk"}
    taken = snapshot(guests={"goes": fields, "stays": {"guest_leaving": "", "guest_leaving_error": ""}})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    goes, stays = (LeavingExplainer().part(About(report, taken.guests[name])).sentences for name in ("goes", "stays"))
    assert [sentence.text for sentence in goes] == [
        "The host stays full, and this is done to it, or announced: saved to disk in 40 s.",
        "What was tried last to have it leave did not work: no room on the disk.",
    ]
    assert stays == []
