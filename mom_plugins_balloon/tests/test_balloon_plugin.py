"""The balloon plugin's hooks."""

from dataclasses import replace

import pytest
from guest_facts import GIB, MIB

from mom_core import Decision, Entity, Guest, HypervisorError, Scope, Severity, Source, Status
from mom_devkit import apply_decisions
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.sizes import ASKED_AGAIN_SECONDS


def wants(identity, value):
    return Decision(Entity(Scope.GUEST, identity, f"name-{identity}"), "balloon_target", value, source=Source("50_test", 1, 1))


def collected(plugin, guests):
    """Return the plugin's fields of guests, keyed by ID."""
    rows = plugin.mom_collect_guests(guests).rows() or [{}] * len(guests)
    return {guest.id: row for guest, row in zip(guests, rows, strict=True) if row}


def outcomes_by_guest(outcomes):
    return {outcome.decision.entity.id: outcome for outcome in outcomes}


class TestReview:
    def test_guest_gives_once_for_the_same_statistics(self, plugin, hypervisor, seen_by):
        list(plugin.mom_review(seen_by(hypervisor, 100.0), [wants("a", 1500 * MIB)]))
        apply_decisions(plugin, [wants("a", 1500 * MIB)], hypervisor)
        assert hypervisor.sizes["a"] == 1500 * MIB
        said = {"mem_usable": 2 * GIB - 600 * MIB, "stats_age": 1.5, "balloon_target_age": 0.5}
        (revision,) = plugin.mom_review(seen_by(hypervisor, 100.5, a=said), [wants("a", 1300 * MIB)])
        assert revision.after is None
        assert revision.reason.startswith("mom has resized the guest since its last statistics")
        assert list(plugin.mom_review(seen_by(hypervisor, 100.5, a=said), [wants("a", 1600 * MIB)])) == [], "it may grow"
        fresh = {"stats_age": 0.3}
        assert list(plugin.mom_review(seen_by(hypervisor, 101.0, a=fresh), [wants("a", 1300 * MIB)])) == []

    def test_age_limit_of_statistics_follows_a_reload_of_the_interval(self, plugin, context, hypervisor, seen_by):
        old = {"stats_age": 12.0}
        assert list(plugin.mom_review(seen_by(hypervisor, 100.0, a=old), [wants("a", 1500 * MIB)])) == []
        context.interval = 2.0
        (revision,) = plugin.mom_review(seen_by(hypervisor, 102.0, a=old), [wants("a", 1500 * MIB)])
        assert revision.after is None
        assert "12 s old" in revision.reason

    def test_guest_of_unknown_size_is_left_alone(self, plugin, hypervisor, seen_by):
        (revision,) = plugin.mom_review(seen_by(hypervisor, a={"balloon_cur": None}), [wants("a", GIB)])
        assert (revision.after, revision.reason) == (None, "the guest's present size is unknown")


class TestSizeBeforeMom:
    """mom restores it at the end, so intermediate sizes of a moving balloon do not count."""

    def drops(self, plugin, seen, size=1500 * MIB):
        return [one.reason for one in plugin.mom_review(seen, [wants("a", size)]) if one.after is None]

    def test_moving_balloon_is_not_resized(self, plugin, hypervisor, seen_by):
        for now, size in enumerate((1600, 1700, 1800)):
            hypervisor.sizes["a"] = size * MIB
            assert "may still be moving" in self.drops(plugin, seen_by(hypervisor, now=now))[0]
            assert self.drops(plugin, seen_by(hypervisor, now=now), 2 * GIB), "nor may it grow"
        assert "known in 1.0 s" in self.drops(plugin, seen_by(hypervisor, now=4))[0]
        assert self.drops(plugin, seen_by(hypervisor, now=5)) == []

    def test_observing_mom_does_not_wait_for_the_balloon(self, context, hypervisor, seen_by):
        plugin = BalloonPlugin(BalloonPlugin.Settings(), replace(context, configuration=lambda: {"mode": "observe"}))
        hypervisor.sizes["a"] = 1600 * MIB
        assert self.drops(plugin, seen_by(hypervisor)) == []


class TestControl:
    def control(self, plugin, hypervisor, snapshot, *decisions):
        plugin.mom_review(snapshot, decisions)
        return outcomes_by_guest(apply_decisions(plugin, decisions, hypervisor, snapshot))

    @pytest.mark.parametrize(
        ("size", "why"), [(600 * MIB, "the guest needs 632 MiB, including a reserve"), (3 * GIB, "above 2.00 GiB: the guest's maximum")]
    )
    def test_write_passes_the_same_gate(self, plugin, hypervisor, seen_by, size, why):
        seen = seen_by(hypervisor)
        assert list(plugin.mom_review(seen, [wants("a", GIB)])) == []
        (outcome,) = apply_decisions(plugin, [wants("a", size)], hypervisor, seen)
        assert outcome.status is Status.REFUSED
        assert outcome.error.startswith(why)
        assert hypervisor.sizes["a"] == 2 * GIB

    def test_guests_are_asked_and_read_back_in_one_call(self, plugin, hypervisor, seen_by):
        outcomes = self.control(plugin, hypervisor, seen_by(hypervisor), wants("a", GIB), wants("b", GIB))
        assert hypervisor.commands == [("a", GIB), ("b", GIB)]
        assert hypervisor.reads == 1
        assert [(o.status, o.before, o.after) for o in outcomes.values()] == [(Status.APPLIED, 2 * GIB, GIB)] * 2

    def test_one_bad_guest_harms_no_other(self, plugin, hypervisor, seen_by):
        snapshot = seen_by(hypervisor)
        del hypervisor.sizes["a"]
        hypervisor.errors["b"] = ZeroDivisionError("a driver with a mistake")
        outcomes = self.control(plugin, hypervisor, snapshot, wants("a", GIB), wants("b", GIB), wants("c", GIB))
        assert {i: o.status for i, o in outcomes.items()} == {"a": Status.GONE, "b": Status.FAILED, "c": Status.APPLIED}
        assert "a driver with a mistake" in outcomes["b"].error

    def test_a_change_within_the_dead_band_is_not_sent(self, plugin, hypervisor, seen_by):
        outcome = self.control(plugin, hypervisor, seen_by(hypervisor), wants("a", 2 * GIB - 7 * MIB))["a"]
        assert outcome.status is Status.UNCHANGED
        assert hypervisor.commands == []
        assert hypervisor.reads == 0

    def test_maximum_is_sent_within_the_dead_band(self, plugin, hypervisor, seen_by):
        hypervisor.sizes["a"] = 2 * GIB - MIB
        plugin.mom_review(seen_by(hypervisor, now=-5), [])
        self.control(plugin, hypervisor, seen_by(hypervisor), wants("a", 2 * GIB))
        assert hypervisor.commands == [("a", 2 * GIB)]

    def test_a_guest_on_its_way_is_not_asked_again(self, plugin, hypervisor, seen_by):
        hypervisor.speed = 100 * MIB
        self.control(plugin, hypervisor, seen_by(hypervisor), wants("a", GIB))
        outcome = self.control(plugin, hypervisor, seen_by(hypervisor, now=5), wants("a", GIB + MIB))["a"]
        assert outcome.status is Status.UNCHANGED
        assert outcome.error == "the guest is already moving to this size"
        assert hypervisor.commands == [("a", GIB)]

    def test_guest_that_does_not_follow_is_asked_again(self, plugin, hypervisor, seen_by):
        hypervisor.speed, hypervisor.sizes["a"] = 0, GIB
        plugin.mom_review(seen_by(hypervisor, now=-5), [])
        for now in (0, ASKED_AGAIN_SECONDS, ASKED_AGAIN_SECONDS + 1):
            self.control(plugin, hypervisor, seen_by(hypervisor, now=now), wants("a", 2 * GIB - MIB))
        assert hypervisor.commands == [("a", 2 * GIB - MIB)] * 2


class TestFields:
    def test_guarantee_field_follows_the_configuration(self, plugin, context):
        for text, kib in (("512MiB", 512 * MIB), ("1GiB", GIB)):
            promised = {"a": BalloonPlugin.GuestSettings(guarantee=text), "b": BalloonPlugin.GuestSettings()}  # type: ignore[arg-type]  # as in YAML
            context.guest_settings = lambda guest, promised=promised: promised[guest.id]
            assert collected(plugin, [Guest("a", "a"), Guest("b", "b")]) == {"a": {"balloon_min": kib}}

    def test_last_request_is_a_field_until_the_guest_is_gone(self, plugin, hypervisor, seen_by):
        assert collected(plugin, hypervisor.guests()) == {}
        plugin.mom_review(seen_by(hypervisor), [wants("a", GIB)])
        apply_decisions(plugin, [wants("a", GIB)], hypervisor)
        (known,) = collected(plugin, hypervisor.guests()).values()
        assert known["balloon_target"] == GIB
        assert isinstance(known["balloon_target_age"], float)
        del hypervisor.sizes["a"]
        assert collected(plugin, hypervisor.guests()) == {}
        hypervisor.sizes["a"] = 2 * GIB
        assert collected(plugin, hypervisor.guests()) == {"a": {"balloon_start_rest": 60.0}}, "it has come anew"

    def test_a_guest_that_was_started_anew_was_never_asked(self, plugin, hypervisor, seen_by):
        plugin.mom_review(seen_by(hypervisor), [wants("a", GIB)])
        apply_decisions(plugin, [wants("a", GIB)], hypervisor)
        hypervisor.incarnations["a"] = "second"
        assert collected(plugin, hypervisor.guests()) == {"a": {"balloon_start_rest": 60.0}}


class TestDoctor:
    def test_guests_without_a_balloon_are_named_with_the_cure(self, plugin, hypervisor):
        hypervisor.guests = lambda: [Guest("a", "db\n1", blocked={"balloon_target": "it has no balloon device"}), Guest("b", "web")]
        first, last = plugin.mom_doctor(hypervisor)
        assert (first.severity, first.subject) == (Severity.WARNING, "guest db\\n1")
        assert "no balloon device" in first.message
        assert "memballoon" in first.cure
        assert (last.severity, last.message) == (Severity.OK, "1 of 2 guests can be resized")
        hypervisor.guests = lambda: [Guest("whole", "whole", properties={"mem_guarantee": "100%"}), Guest("b", "b")]
        (last,) = plugin.mom_doctor(hypervisor)
        assert last.message == "2 of 2 guests can be resized; guests with a guarantee for all of their memory: 1"

    def test_unusable_hypervisors_are_reported(self, plugin, hypervisor, no_balloons):
        assert [finding.severity for finding in plugin.mom_doctor(None)] == [Severity.WARNING]
        (finding,) = plugin.mom_doctor(no_balloons)
        assert (finding.severity, bool(finding.cure)) == (Severity.ERROR, True)
        hypervisor.unreachable = HypervisorError("no socket")
        (finding,) = plugin.mom_doctor(hypervisor)
        assert finding.severity is Severity.ERROR
        assert "no socket" in finding.message

    def test_many_such_guests_are_counted(self, plugin, hypervisor):
        hypervisor.guests = lambda: [Guest(str(i), str(i), blocked={"*": "it is paused"}) for i in range(50)]
        findings = list(plugin.mom_doctor(hypervisor))
        assert len(findings) == 12
        assert findings[-2].message == "40 more guests cannot be resized"


@pytest.mark.parametrize("there", ["dev/kvm", "run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock"])
def test_plugin_is_suggested_where_guests_can_run(tmp_path, there):
    assert BalloonPlugin.mom_suggest(tmp_path) is None
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    suggestion = BalloonPlugin.mom_suggest(tmp_path)
    assert suggestion is not None
    assert suggestion.reason
