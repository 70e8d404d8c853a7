"""What is said of a guest's class in words."""

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_sla.explanation import ClassExplainer


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
