"""The hypervisor on a vdsm peer: guests, present values, changes and faults."""

import threading
from dataclasses import replace

import pytest

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, NotSupported, Scope
from mom_devkit import wait_until
from mom_plugins_vdsm import connection as connection_module

A = {"id": "a", "name": "one", "disks": [{"name": "vda", "path": "/p/vda", "maximum": {"total_bytes_sec": 5 << 32}}]}
ONE = Entity(Scope.GUEST, "a", "one")
BULK = ("Host.getAllVmStats", "Host.getAllVmIoTunePolicies")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.1,))


def test_guests_in_every_state(vdsm, hypervisor):
    vdsm.add(
        {"id": "up", "name": "up"},
        {"id": "down", "name": "down", "status": "Down"},
        {"id": "launch", "name": "launch", "status": "WaitForLaunch"},
        {"id": "coming", "name": "coming", "status": "Migration Destination"},
        {"id": "going", "name": "going", "status": "Migration Source"},
        {"id": "post", "name": "post", "post_copy": True},
        {"id": "paused", "name": "paused", "status": "Paused", "pause_code": "EIO"},
        {"id": "bare", "name": "bare", "device": False},
        {"id": "off", "name": "off", "enabled": False},
        {"id": "new", "name": "new", "samples": 1},
    )
    blocked = {guest.id: guest.blocked for guest in hypervisor.guests()}
    assert blocked == {
        "up": {},
        "going": {"*": "the guest is 'Migration Source' according to vdsm"},
        "post": {"*": "the guest is being migrated"},
        "paused": {"*": "the guest is 'Paused' according to vdsm (EIO)"},
        "bare": {"balloon_target": "the guest has no balloon device"},
        "off": {"balloon_target": "ballooning is switched off for the guest"},
        "new": {},
    }
    fields = hypervisor.fields(hypervisor.guests())
    assert fields["new"] == fields["paused"] == {}
    assert fields["bare"] == {"vcpu_count": 2}
    assert fields["up"]["mem_unused"] == 2 << 20


def test_all_statistics_come_in_one_call_and_are_used_for_the_whole_cycle(vdsm, hypervisor):
    vdsm.add(A, {**A, "id": "b"})
    guests = hypervisor.guests()
    entities = [guest.entity for guest in guests]
    hypervisor.fields(guests)
    assert hypervisor.balloon_sizes(entities) == {"a": 4 << 20, "b": 4 << 20}
    assert hypervisor.cpu_tunes(entities)["a"].quota_us == -1
    assert len(hypervisor.io_tunes(entities)) == 2
    hypervisor.io_tunes(entities)
    assert [method for method, _ in vdsm.calls()] == list(BULK)


def test_a_balloon_is_set_and_what_was_known_of_the_guest_is_read_anew(vdsm, hypervisor):
    vdsm.add(A)
    hypervisor.guests()
    hypervisor.set_balloon(ONE, 3_000_000)
    vdsm.sample()
    assert hypervisor.balloon_sizes([ONE]) == {"a": 3_000_000}
    assert vdsm.calls("VM.setBalloonTarget") == [("VM.setBalloonTarget", {"vmID": "a", "target": 3_000_000})]


def test_a_guest_that_vanished_is_gone_and_one_that_stopped_is_refused(vdsm, hypervisor):
    vdsm.add(A)
    hypervisor.guests()
    vdsm.change("a", status="Down")
    with pytest.raises(HypervisorError, match="code 53"):
        hypervisor.set_balloon(ONE, 5000)
    vdsm.remove(identity="a")
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(ONE, 5000)
    assert hypervisor.balloon_sizes([ONE]) == {}
    assert hypervisor.guests() == ()
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(ONE, 5000)


def test_quota_then_period(vdsm, hypervisor):
    vdsm.add(A)
    hypervisor.set_cpu_tune(ONE, quota_us=50_000, period_us=200_000)
    assert [method for method, _ in vdsm.calls("VM.setCpuTuneQuota", "VM.setCpuTunePeriod")] == [
        "VM.setCpuTuneQuota",
        "VM.setCpuTunePeriod",
    ]
    found = hypervisor.cpu_tunes([ONE])["a"]
    assert (found.quota_us, found.period_us) == (50_000, 200_000)
    with pytest.raises(NotSupported, match="shares"):
        hypervisor.set_cpu_tune(ONE, shares=5)


def test_disks_limits_are_set_kept_and_read_anew_after_a_change(vdsm, hypervisor):
    vdsm.add(A)
    hypervisor.guests()
    (disk,) = hypervisor.io_tunes([ONE])["a"]
    assert disk.maximum == {"total_bytes_sec": 5 << 32}
    hypervisor.set_io_tune(ONE, "vda", {"total_bytes_sec": 5 << 32})
    (disk,) = hypervisor.io_tunes([ONE])["a"]
    assert disk.current["total_bytes_sec"] == 5 << 32
    hypervisor.io_tunes([ONE])
    assert len(vdsm.calls("Host.getAllVmIoTunePolicies")) == 2
    with pytest.raises(NotSupported, match="no disk vdz"):
        hypervisor.set_io_tune(ONE, "vdz", {})


def test_disks_of_a_guest_that_has_come_since_are_read(vdsm, hypervisor):
    vdsm.add(A, {"id": "bare", "name": "bare", "disks": []})
    entities = [guest.entity for guest in hypervisor.guests()]
    hypervisor.io_tunes(entities)
    hypervisor.io_tunes(entities)
    assert len(vdsm.calls("Host.getAllVmIoTunePolicies")) == 1, "a guest without disks is no reason"
    vdsm.add({**A, "id": "b", "name": "two"})
    vdsm.event(identity="b", status="Up")
    wait_until(lambda: len(hypervisor.guests()) == 3)
    entities = [guest.entity for guest in hypervisor.guests()]
    assert hypervisor.io_tunes(entities).keys() == {"a", "b"}


# --- faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, {}, "text", 7, [{}, 7]])
def test_a_list_of_guests_that_is_none_is_an_error_and_not_an_empty_list(vdsm, hypervisor, result):
    vdsm.fault("Host.getAllVmStats", how="result", result=result)
    with pytest.raises(HypervisorError, match="list of guests"):
        hypervisor.guests()


@pytest.mark.parametrize("fault", [{"how": "error", "code": 99}, {"how": "error", "code": -32603}, {"how": "drop"}, {"how": "never"}])
def test_a_list_that_does_not_come_is_an_error_and_the_next_one_is_good(vdsm, hypervisor, fault, monkeypatch):
    vdsm.add(A)
    vdsm.fault("Host.getAllVmStats", **fault)
    patient = hypervisor.settings
    monkeypatch.setattr(hypervisor, "settings", replace(patient, answer_timeout=0.5))
    with pytest.raises(HypervisorError) as caught:
        hypervisor.guests()
    monkeypatch.setattr(hypervisor, "settings", patient)
    assert not isinstance(caught.value, GuestBusy | GuestGone)

    def answers() -> bool:
        try:
            return len(hypervisor.guests()) == 1
        except HypervisorError:
            return False

    wait_until(answers)


def test_a_guest_about_which_vdsm_does_not_answer_is_left_alone_until_it_does(vdsm, hypervisor, monkeypatch):
    vdsm.add(A, {**A, "id": "b", "name": "two"})
    hypervisor.guests()
    monkeypatch.setattr(hypervisor, "settings", replace(hypervisor.settings, call_timeout=2.0))
    vdsm.fault("VM.setBalloonTarget", held=True)
    errors: list[HypervisorError] = []

    def hang() -> None:
        with pytest.raises(GuestBusy) as caught:
            hypervisor.set_balloon(ONE, 3_000_000)
        errors.append(caught.value)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_until(lambda: vdsm.wire()["frames"].count("SEND") == 2)
    hypervisor.set_balloon(Entity(Scope.GUEST, "b", "two"), 3_000_000)  # the others go on
    thread.join()
    assert errors
    blocked = {guest.id: guest.blocked for guest in hypervisor.guests()}
    assert blocked["b"] == {}
    assert "has not answered" in blocked["a"]["*"]
    with pytest.raises(GuestBusy):
        hypervisor.set_balloon(ONE, 3_000_000)
    vdsm.release()
    wait_until(lambda: not hypervisor.guests()[0].blocked)
    assert len(vdsm.calls("VM.setBalloonTarget")) == 2
    assert vdsm.wire()["connections"] == 1


def test_a_guest_that_hangs_is_not_asked_again_over_a_new_connection_for_a_minute(vdsm, hypervisor, monkeypatch):
    vdsm.add(A)
    hypervisor.guests()
    patient = hypervisor.settings
    monkeypatch.setattr(hypervisor, "settings", replace(patient, call_timeout=0.2))
    vdsm.fault("VM.setBalloonTarget", how="never")
    with pytest.raises(GuestBusy):
        hypervisor.set_balloon(ONE, 3_000_000)
    monkeypatch.setattr(hypervisor, "settings", patient)
    vdsm.drop()
    wait_until(lambda: hypervisor.connection._session is None)
    (guest,) = hypervisor.guests()
    assert "has not answered" in guest.blocked["*"]
    with pytest.raises(GuestBusy):
        hypervisor.set_balloon(ONE, 3_000_000)
    assert len(vdsm.calls("VM.setBalloonTarget")) == 1
    later = hypervisor.context.monotonic() + 60.0
    monkeypatch.setattr(hypervisor.context, "monotonic", lambda: later)
    hypervisor.set_balloon(ONE, 3_000_000)
    assert len(vdsm.calls("VM.setBalloonTarget")) == 1


def test_what_hangs_about_the_host_is_not_asked_again_meanwhile_and_holds_no_second_worker_of_vdsm(vdsm, hypervisor, monkeypatch):
    vdsm.add(A)
    hypervisor.guests()
    patient = hypervisor.settings
    monkeypatch.setattr(hypervisor, "settings", replace(patient, call_timeout=0.2, answer_timeout=0.2))
    calls = {"Host.setKsmTune": lambda: hypervisor.ksm_write({"run": 2}), "Host.getAllVmIoTunePolicies": lambda: hypervisor.io_tunes([ONE])}
    for verb, call in calls.items():
        vdsm.fault(verb, how="never")
        for why in ("has not answered within", "has not answered the last identical call"):
            with pytest.raises(HypervisorError, match=why):
                call()
    monkeypatch.setattr(hypervisor, "settings", patient)
    assert [verb for verb, _ in vdsm.calls(*calls)] == list(calls)
    hypervisor.ksm_write({"run": 1})  # unmerging takes long, so KSM need not be unmerged yet
    later = hypervisor.context.monotonic() + 60.0
    monkeypatch.setattr(hypervisor.context, "monotonic", lambda: later)
    for call in calls.values():
        call()
    assert [verb for verb, _ in vdsm.calls(*calls)] == ["Host.setKsmTune", *calls]


# --- events and identity ---------------------------------------------------------------------------------------------------------


def test_events_of_guests_that_change_are_told_and_make_the_list_stale(vdsm, hypervisor):
    vdsm.add(A)
    heard: list[str] = []
    hypervisor.context.wake = heard.append
    hypervisor.guests()
    vdsm.event(identity="a", status="Up")  # no change
    vdsm.add({"id": "b", "name": "two"})
    vdsm.event(identity="b", status="Up")
    wait_until(lambda: heard == ["guest b is 'Up'"])
    assert len(hypervisor.guests()) == 2
    vdsm.event(identity="a", status="Down")
    wait_until(lambda: heard[1:] == ["guest one is 'Down'"])
