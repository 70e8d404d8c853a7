"""Recent acts in words: one item for all steps of an act, and on request for all guests with the same act."""

from served_mom import Served

from mom_core import Decision, Entity, Outcome, Scope, Source, Status, Unit
from mom_daemon import Explainer
from mom_plugins_http.routes.acts import Words, acts
from mom_plugins_http.routes.published import PastNote, PastOutcome

MIB = 1 << 10
GIB = 1 << 20


class Sizes(Explainer):
    verbs = {"balloon_target": ("grown", "shrunk")}  # declared as a mapping
    phrases = {"trim-burst": "the host is full"}  # declared as a mapping


WORDS = Words({"balloon_target": Unit.KIB, "ksm_sleep": Unit.MILLISECONDS}, {"balloon_target": Sizes()})
LAW = "trim-burst: (guest.Control 1) in 50_balloon:1:1"


def past(
    time: float, name: str, before: object, value: object, reason: str = LAW, status: Status = Status.APPLIED, **more: str
) -> PastOutcome:
    entity = Entity(Scope.GUEST, name, name)
    decision = Decision(entity, more.pop("control", "balloon_target"), value, reason, Source("60_mine", 3, 1))  # type: ignore[arg-type]  # `more` is given by name in each test
    return PastOutcome(time, Outcome(decision, before, value, status, **more))  # type: ignore[arg-type]  # `more` is given by name in each test


def texts(*done: PastOutcome, together: bool = False, notes: tuple[PastNote, ...] = ()) -> list[tuple[str, str]]:
    return [(one["who"], one["text"]) for one in acts(done, notes, WORDS, 60.0, together=together)]


def test_steps_in_one_direction_are_one_act_with_the_size_before_the_first_and_after_the_last() -> None:
    steps = [past(9, "db", 2.5 * GIB, 1.86 * GIB), past(8, "db", 3 * GIB, 2.5 * GIB), past(7, "db", 4 * GIB, 3 * GIB)]
    assert texts(*steps) == [("db", "shrunk in 3 steps, 4.00 → 1.86 GiB: the host is full")]
    grown = past(8.5, "db", 2.5 * GIB, 3 * GIB, "runs-out: (guest.Control 1) in 50_balloon:1:1")
    assert [text for _, text in texts(steps[0], grown, *steps[1:])] == [
        "shrunk, 2.50 → 1.86 GiB: the host is full",
        "grown, 2.50 → 3.00 GiB: runs-out",
        "shrunk in 2 steps, 4.00 → 2.50 GiB: the host is full",
    ]
    assert len(texts(past(100, "db", 2 * GIB, GIB), past(9, "db", 3 * GIB, 2 * GIB))) == 2, "a minute later it is another act"


def test_the_same_done_to_several_guests_is_one_act_of_each_guest_once() -> None:
    done = [past(9, "b", 2 * GIB, GIB), past(8, "a", 3 * GIB, 2 * GIB), past(7, "c", 512 * MIB, 256 * MIB)]
    assert texts(*done, together=True) == [("a, b, c", "shrunk, 5.50 → 3.25 GiB together: the host is full")]
    regrown = past(8.5, "b", GIB, 2 * GIB, "grown back")
    again = texts(done[0], regrown, past(8.2, "b", 3 * GIB, GIB), *done[1:], together=True)
    assert [who for who, _ in again] == ["b", "b", "a, b, c"]


def test_what_was_not_done_says_so_with_the_error_and_how_often() -> None:
    failed = [past(9 - n, "db", 2 * GIB, GIB, status=Status.FAILED, error="QEMU refuses") for n in range(3)]
    assert texts(*failed) == [("db", "not shrunk, 2.00 → 1.00 GiB: failed 3 times, QEMU refuses")]
    assert texts(past(9, "db", 2 * GIB, GIB, status=Status.OBSERVED)) == [("db", "would be shrunk, 2.00 → 1.00 GiB: the host is full")]


def test_a_decision_of_ones_own_policy_names_its_place_and_an_unknown_control_its_name() -> None:
    assert texts(past(9, "db", 20, 200, '(Host.Control "ksm_sleep" 200)', control="ksm_sleep")) == [
        ("db", "changed in ksm sleep, 20 → 200 ms: by 60_mine:3:1")
    ]


def test_acts_of_policies_and_reservations_are_known_from_before_the_first_cycle(served: Served) -> None:
    served.engine.cycle()
    served.put("60_after")
    assert served.client.post("/v1/reservations", json={"memory": "64MiB", "deadline": "10m", "name": "db-9"}).status_code == 201
    served.engine.cycle()
    items = [one for one in served.client.get("/v1/acts").json()["items"] if not one["about"]]
    assert items[-1]["text"] == "read at the start, by mom"
    assert {one["who"] for one in items} == {"policies", "reserved"}
    assert sum("set 60_after, by " in one["text"] for one in items) == 1
    assert sum(one["text"].startswith("64 MiB for db-9: ") for one in items) == 1
