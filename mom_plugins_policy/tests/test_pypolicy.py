"""Policies in Python: arguments, results and mistakes."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mom_core import (
    ConfigError,
    ControlSpec,
    Decision,
    Declarations,
    FieldSpec,
    Guest,
    PluginContext,
    Problem,
    Scope,
    Severity,
    Snapshot,
    Unit,
    Value,
)
from mom_core.testing import snapshot
from mom_plugins_policy.python import GiB, PypolicyPlugin

UNITS = {"used": Unit.KIB, "limit": Unit.KIB, "kind": Unit.TEXT, "disks": Unit.LIST, "rate": Unit.RATIO}
FIELDS = {(scope, name): FieldSpec(name, unit, scope, name) for scope in Scope for name, unit in UNITS.items()}
CONTROLS = {
    "size": ControlSpec("size", Unit.KIB, Scope.GUEST, "size", "used", minimum=0),
    "disks": ControlSpec("disks", Unit.LIST, Scope.GUEST, "disks", "disks"),
    "knob": ControlSpec("knob", Unit.COUNT, Scope.HOST, "knob", "used"),
}


class Folder:
    """Folder of policies, and the plugin."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "pypolicy.d"
        self.path.mkdir()
        declarations = Declarations(fields=FIELDS, controls=CONTROLS)
        self.context = PluginContext(name="pypolicy", state_directory=tmp_path / "state", declarations=declarations)
        self.plugin = self.anew()

    def anew(self) -> PypolicyPlugin:
        return PypolicyPlugin(PypolicyPlugin.Settings(directory=self.path), self.context)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    def decisions(self, seen: Snapshot | None = None, **files: str) -> list[Decision]:
        """Return the decisions of policies with these names and texts."""
        for name, text in files.items():
            self.write(f"{name}.py", text)
        self.plugin.mom_setup()
        seen = seen or GUESTS
        return [one for one in self.plugin.mom_evaluate(seen, seen.history) if isinstance(one, Decision)]

    def decide(self, text: str, seen: Snapshot | None = None) -> tuple[dict[tuple[str, str], Any], list[Problem]]:
        """Return the decisions of a policy with this text, keyed by entity's name and control, and the problems."""
        self.write("p.py", text)
        self.plugin.mom_setup()
        return self.again(seen)

    def again(self, seen: Snapshot | None = None) -> tuple[dict[tuple[str, str], Any], list[Problem]]:
        found = list(self.plugin.mom_evaluate(seen or GUESTS, ()))
        decided = {(one.entity.name, one.control): one.value for one in found if isinstance(one, Decision)}
        return decided, [one for one in found if isinstance(one, Problem)]

    def refused(self) -> str:
        """Return the error of the policies. It is the same at the start, at a reload and in `mom config check`."""
        with pytest.raises(ConfigError) as caught:
            self.plugin.mom_setup()
        with pytest.raises(ConfigError) as again:
            self.plugin.mom_reload()
        assert str(again.value) == str(caught.value)
        findings = list(self.plugin.mom_check())
        assert {finding.severity for finding in findings} == {Severity.ERROR}
        assert "\n".join(finding.message for finding in findings) == str(caught.value)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def guests(**fields: Mapping[str, Any]) -> Snapshot:
    return snapshot(host={"used": 7}, guests=fields)


GUESTS = guests(a={"used": 1 * GiB}, b={"used": 2 * GiB}, c={"used": 4 * GiB})

HALVES = """
    def decide(host, guests):
        for guest in guests:
            yield guest.set("size", guest.number("used") // 2, because=f"{guest.name} idles")
"""


# --- arguments and decisions ---------------------------------------------------------------------------------------------------


def test_a_decision_has_its_reason_and_the_line_where_it_was_made(folder: Folder) -> None:
    first, *_ = folder.decisions(p=HALVES)
    assert (first.entity.name, first.control, first.value, first.reason) == ("a", "size", GiB // 2, "a idles")
    assert str(first.source) == "p.py:3:1"


def test_what_is_unknown_is_none_and_never_zero(folder: Folder) -> None:
    text = """
        def decide(host, guests):
            (guest,) = guests
            assert guest.number("used") is None and guest.text("kind") is None
            assert guest.items("disks") is None and guest.average("rate") is None and guest.prop("pid") is None
            assert host.number("limit") is None
            yield host.set("knob", 1, because="all is unknown")
    """
    for fields in ({}, {"used": None, "kind": None, "disks": None}, {"used": "3", "kind": 3, "disks": "x", "rate": float("nan")}):
        assert folder.decide(text, guests(vm=fields)) == ({("host", "knob"): 1}, [])


def test_values_are_read_as_what_they_are(folder: Folder) -> None:
    text = """
        def decide(host, guests):
            (guest,) = guests
            disks = guest.items("disks")
            disks[0]["name"] = "changed"
            assert guest.items("disks") == [{"name": "vda"}]
            yield guest.set("size", guest.number("used"), because=guest.text("kind") + guest.prop("uuid"))
            yield host.set("knob", guest.average("rate"), because="the mean of all that is known")
    """
    history = [{"guests": {"vm": {"rate": 0.5}}}, {"guests": {"vm": {"rate": None}}}, {"guests": {}}]
    fields: dict[str, Value] = {"used": 5, "kind": "k", "disks": [{"name": "vda"}], "rate": 1.5}
    seen = snapshot(guests={"vm": fields}, properties={"vm": {"uuid": "u1"}}, history=history)  # type: ignore[arg-type]  # samples
    size, knob = folder.decisions(seen, p=text)
    assert (size.value, size.reason, knob.value) == (5, "ku1", 1.0)
    assert fields["disks"] == [{"name": "vda"}]


def test_the_mean_of_a_number_is_that_of_the_guest_since_it_was_started(folder: Folder) -> None:
    def sample(incarnation: str, used: int) -> Snapshot:
        return Snapshot(guests={"vm": Guest("vm", "vm", {"used": used}, incarnation=incarnation)})

    folder.write("p.py", "def decide(host, guests):\n    yield from (it.set('size', it.average('used'), because='b') for it in guests)")
    folder.plugin.mom_setup()
    (decision,) = folder.plugin.mom_evaluate(sample("2", 300), [sample("1", 8000), sample("2", 100)])
    assert isinstance(decision, Decision)
    assert decision.value == 200


@pytest.mark.parametrize(
    ("bounds", "expected"), [("least=12", 12), ("least=3, most=8.9", 8), ("most=None, least=None", 10), ("least=12, most=8", 8)]
)
def test_a_bound_that_is_none_bounds_nothing(folder: Folder, bounds: str, expected: float) -> None:
    assert folder.decide(f"def decide(host, guests):\n    return host.set('knob', 10, because='x', {bounds})\n") == (
        {("host", "knob"): expected},
        [],
    )


def test_a_later_policy_sees_what_earlier_ones_decided_and_noted(folder: Folder) -> None:
    first = "def decide(h, g):\n    h.notes['seen'] = 1\n    return h.set('knob', 5, because='x')\n"
    second = "def decide(h, g):\n    return h.set('knob', h.wanted('knob') + h.notes['seen'], because='x')\n"
    assert [one.value for one in folder.decisions(a=first, b=second)] == [5, 6]


# --- mistakes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loop",
    [
        "for guest in guests:\n        yield sized(guest)",
        "return [sized(guest) for guest in guests]",
        "return (sized(guest) for guest in guests)",
        "total = sum(guest.number('used') / (guest.name != 'b') for guest in guests)\n    yield from map(sized, guests)",
        "for guest in guests:\n        if [1 / (one.name != 'b') for one in guests]:\n            yield sized(guest)",
        "yield from (sized(guest) for guest, _ in zip(guests, range(9), strict=False))",
        "for guest in guests:\n        try:\n            yield sized(guest)\n        finally:\n            pass",
    ],
)
def test_an_error_at_one_guest_costs_only_that_guest(folder: Folder, loop: str) -> None:
    text = (
        f"def sized(guest):\n    return guest.set('size', 1 / (guest.name != 'b'), because='x')\n\ndef decide(host, guests):\n    {loop}\n"
    )
    decided, (problem,) = folder.decide(text)
    assert decided == {("a", "size"): 1, ("c", "size"): 1}
    assert problem.entity is not None
    assert problem.entity.name == "b"
    assert problem.message == "left out by p.py: ZeroDivisionError: division by zero" or "float division" in problem.message
    assert problem.source.name == "p.py"
    assert problem.source.line in {2, 5, 6, 7}


def test_a_guest_of_which_something_is_unknown_is_left_out_with_a_warning(folder: Folder) -> None:
    decided, problems = folder.decide(HALVES, guests(a={"used": 4}, b={"used": None}, c={}, d={"used": 8}))
    assert decided == {("a", "size"): 2, ("d", "size"): 4}
    assert [problem.entity.name for problem in problems if problem.entity] == ["b", "c"]
    assert {(problem.severity, problem.message) for problem in problems} == {
        (Severity.WARNING, "left out by p.py, because used is unknown")
    }
    assert {str(problem.source) for problem in problems} == {"p.py:3:1"}


@pytest.mark.parametrize(
    "text",
    [
        "def decide(host, guests):\n    total = sum(1 for guest in guests)\n    yield host.set('knob', 1, because='x')\n    1 / 0\n",
        "def decide(host, guests):\n    for guest in guests:\n        if guest.name == 'b':\n            break\n    1 / 0\n",
        "def decide(host, guests):\n    raise SystemExit(1)\n",
    ],
)
def test_an_error_elsewhere_costs_the_policy_this_cycle_and_no_other_policy(folder: Folder, text: str) -> None:
    folder.write("q.py", HALVES)
    decided, problems = folder.decide(text)
    assert [name for name, _ in decided] == ["a", "b", "c"]
    (problem,) = problems
    assert problem.message.startswith("the policy decides nothing in this cycle: ")
    assert problem.source.line == text.count("\n") or "SystemExit" in problem.message or "Recursion" in problem.message


MISTAKES = [line.split("  =>  ") for line in Path(__file__).with_name("pypolicy_mistakes.txt").read_text().splitlines()[1:]]


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_a_mistake_costs_itself_and_is_said_with_its_line(folder: Folder, line: str, said: str) -> None:
    decided, (problem,) = folder.decide(f"def decide(host, guests):\n    yield host.set('knob', 1, because='x')\n    {line}\n")
    assert decided == ({} if said.startswith("the policy decides nothing") else {("host", "knob"): 1})
    assert problem.message.startswith(said)
    assert str(problem.source) == "p.py:3:1"
    assert (problem.hint == "write `yield` before `set`") is ("not yielded" in said)


# --- notes -------------------------------------------------------------------------------------------------------------------------

COUNTS = """
    def decide(host, guests):
        host.notes["cycles"] = host.notes.get("cycles", 0) + 1
        for guest in guests:
            guest.notes["cycles"] = guest.notes.get("cycles", 0) + 1
            yield guest.set("size", guest.notes["cycles"], because="counted")
        yield host.set("knob", host.notes["cycles"], because="counted")
"""


def test_notes_last_from_cycle_to_cycle_and_across_restarts(folder: Folder) -> None:
    one = guests(vm={})
    assert folder.decide(COUNTS, one)[0] == {("vm", "size"): 1, ("host", "knob"): 1}
    assert folder.again(one)[0] == {("vm", "size"): 2, ("host", "knob"): 2}
    folder.plugin = folder.anew()
    folder.plugin.mom_setup()
    assert folder.again(one)[0] == {("vm", "size"): 3, ("host", "knob"): 3}


def test_a_guest_that_is_left_out_is_counted_once_in_the_notes(folder: Folder) -> None:
    text = COUNTS.replace('guest.notes["cycles"], because', "guest.notes['cycles'] / (guest.name != 'b'), because")
    assert folder.decide(text)[0]["host", "knob"] == 1
    assert folder.again()[0] == {("a", "size"): 2, ("c", "size"): 2, ("host", "knob"): 2}


@pytest.mark.parametrize("value", ["float('nan')", "'x' * 70_000", "[[1]]", "[0] * 5000"])
def test_what_cannot_be_kept_is_said_and_what_was_noted_stays(folder: Folder, value: str) -> None:
    folder.decide("def decide(host, guests):\n    for guest in guests:\n        guest.notes['n'] = 1\n")
    text = f"def decide(host, guests):\n    for guest in guests:\n        guest.notes['n'] = 2 if guest.name == 'a' else {value}\n"
    _, problems = folder.decide(text)
    assert [problem.entity.name for problem in problems if problem.entity] == ["b", "c"]
    said = "new notes are not saved, and the old notes stay: 'n' is not a number, string or list of these, or is too long"
    assert {problem.message for problem in problems} == {said}
    text = "def decide(host, guests):\n    return [guest.set('size', guest.notes['n'], because='x') for guest in guests]\n"
    assert folder.decide(text)[0] == {("a", "size"): 2, ("b", "size"): 1, ("c", "size"): 1}


# --- files -------------------------------------------------------------------------------------------------------------------------


def test_policies_are_read_in_the_order_of_their_names_and_hidden_ones_are_not(folder: Folder) -> None:
    for name in ("20_b.py", "10_a.py", ".hidden.py", "_part.py", "notes.txt", "30_c.py.bak"):
        folder.write(name, f"def decide(host, guests):\n    return host.set('knob', 1, because='{name}')\n")
    assert [one.source.name for one in folder.decisions()] == ["10_a.py", "20_b.py"]


def test_a_folder_that_is_absent_or_empty_is_said_and_decides_nothing(folder: Folder) -> None:
    for make in (lambda: None, folder.path.rmdir):
        make()
        folder.plugin.mom_setup()
        assert folder.again() == ({}, [])
        (finding,) = folder.plugin.mom_check()
        assert finding.severity is Severity.WARNING
        assert str(folder.path) in finding.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f():\n    return 1 / 0\nf()\n", "p.py:2:1: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "p.py:2:1: SystemExit: 3"),
        ("x = 1\n", "has no attribute 'decide' (a policy defines `def decide(host, guests):`"),
        ("def decide(host):\n    pass\n", "p.py: TypeError: too many positional arguments"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_with_file_and_line(folder: Folder, text: str, said: str) -> None:
    folder.write("p.py", text)
    assert said in folder.refused()


def test_everything_that_is_wrong_is_said_at_once_and_what_was_in_force_stays(folder: Folder) -> None:
    assert folder.decide(HALVES)[0]["a", "size"] == GiB // 2
    folder.write("p.py", HALVES.replace("//", "/*"))
    folder.write("q.py", "1 / 0\n")
    folder.write("r.py", HALVES)
    with pytest.raises(ConfigError) as caught:
        folder.plugin.mom_reload()
    assert [Path(problem.file).name for problem in caught.value.problems] == ["p.py", "q.py"]
    for _ in range(2):
        decided, (problem,) = folder.again()
        assert decided["a", "size"] == GiB // 2
        assert problem.message.startswith("the policy files were refused at the reload: ")
    folder.write("p.py", HALVES.replace("// 2", "// 4"))
    (folder.path / "q.py").unlink()
    (folder.path / "r.py").unlink()
    put_in_force = folder.plugin.mom_reload()
    assert folder.again()[0]["a", "size"] == GiB // 2, "not before the reload of all plugins has succeeded"
    put_in_force()
    decided, problems = folder.again()
    assert (decided["a", "size"], problems) == (GiB // 4, [])


@pytest.mark.parametrize("mode", [0o002, 0o020])
@pytest.mark.parametrize("which", ["p.py", "."])
def test_what_other_users_could_have_written_is_not_loaded(folder: Folder, which: str, mode: int) -> None:
    ran = folder.path.parent / "ran"
    folder.write("p.py", f"open({str(ran)!r}, 'w')\n{textwrap.dedent(HALVES)}")
    path = folder.path / which
    path.chmod(path.stat().st_mode | mode)
    assert f"{path}: is not used: {path} can be written by " in folder.refused()
    assert not ran.exists()
