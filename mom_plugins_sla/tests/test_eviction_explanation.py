"""What is said in words of a guest that has to go."""

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_sla.eviction.explanation import EvictionExplainer


def test_a_guest_that_has_to_go_is_told_so_and_one_that_stays_is_not() -> None:
    fields: dict[str, Value] = {"guest_eviction": "saved to disk in 40 s", "guest_eviction_error": "no room on the disk"}
    taken = snapshot(guests={"goes": fields, "stays": {"guest_eviction": "", "guest_eviction_error": ""}})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    goes, stays = (EvictionExplainer().part(About(report, taken.guests[name])).sentences for name in ("goes", "stays"))
    assert [sentence.text for sentence in goes] == [
        "The host stays full. Step in progress or announced: saved to disk in 40 s.",
        "The last step failed: no room on the disk.",
    ]
    assert stays == []
