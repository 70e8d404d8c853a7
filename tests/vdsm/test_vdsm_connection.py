"""The connection to a faulty vdsm: every call ends in time, with a reason."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from vdsm_peer import Vdsm

from mom_core import GuestBusy, HypervisorError
from mom_devkit import wait_until
from mom_plugins_vdsm import connection as connection_module
from mom_plugins_vdsm.connection import VdsmConnection

Connect = Callable[..., VdsmConnection]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.1, 0.2, 0.3))


def ping(connection: VdsmConnection, timeout: float = 60.0) -> object:
    return connection.call("Host.ping2", {}, timeout, "pinging")


def refused(connection: VdsmConnection, timeout: float = 60.0) -> HypervisorError:
    with pytest.raises(HypervisorError) as caught:
        ping(connection, timeout)
    return caught.value


# --- the protocol ----------------------------------------------------------------------------------------------------------------


def test_it_subscribes_first_with_a_destination_of_its_own(vdsm: Vdsm, connect: Connect) -> None:
    one, other = connect(vdsm), connect(vdsm)
    assert ping(one) is True
    assert ping(other) is True
    wire = vdsm.wire()
    assert wire["frames"][:4] == ["CONNECT", "SUBSCRIBE", "SUBSCRIBE", "SEND"]
    destinations = {name for names in wire["subscriptions"] for name in names}
    assert len(destinations) == 3
    assert "jms.queue.events" in destinations
    one.close(60.0)
    wait_until(lambda: vdsm.wire()["clients"] == 1)
    assert vdsm.wire()["drops"] == []


@pytest.fixture
def one(connect: Connect, vdsm: Vdsm) -> VdsmConnection:
    return connect(vdsm)


# --- faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["GARBAGE\n\n\0", "MESSAGE\ncontent-length:5\n\nabc\0\0\0", "MESSAGE\n\n[]\0"])
def test_what_is_no_frame_or_json_ends_the_connection_at_once_and_the_next_one_is_good(vdsm: Vdsm, one: VdsmConnection, text: str) -> None:
    vdsm.fault("Host.ping2", how="wire", bytes=text)
    assert "sent an invalid message" in refused(one).message
    wait_until(lambda: can_ping(one))


def test_an_answer_that_is_too_large_is_refused_before_it_is_there(vdsm: Vdsm, connect: Connect) -> None:
    vdsm.add(*({"id": str(number), "name": "x" * 1000} for number in range(100)))
    one = connect(vdsm, largest=64 << 10)
    with pytest.raises(HypervisorError, match=r"is invalid or above 65536"):
        one.call("Host.getAllVmStats", {}, 60.0, "reading")


def can_ping(one: VdsmConnection) -> bool:
    try:
        return ping(one) is True
    except HypervisorError:
        return False


@pytest.mark.parametrize("how", ["drop", "partial"])
def test_what_waits_fails_at_once_when_the_connection_goes(vdsm: Vdsm, one: VdsmConnection, how: str) -> None:
    ping(one)
    vdsm.fault("Host.ping2", how=how)
    assert "closed the connection" in refused(one).message


def test_after_a_connection_that_worked_the_next_call_connects_again(vdsm: Vdsm, one: VdsmConnection) -> None:
    ping(one)
    vdsm.drop()
    wait_until(lambda: vdsm.wire()["clients"] == 0)
    wait_until(lambda: can_ping(one))
    assert one.opened == 2


def test_a_call_that_hangs_alone_leaves_the_connection_to_the_others(vdsm: Vdsm, one: VdsmConnection) -> None:
    vdsm.fault("Host.getVMList", held=True)
    late: list[Callable[[], bool]] = []

    def list_guests() -> None:
        with pytest.raises(GuestBusy):
            one.call("Host.getVMList", {}, 1.5, "listing", late.append)

    thread = threading.Thread(target=list_guests)
    thread.start()
    wait_until(lambda: "SEND" in vdsm.wire()["frames"])
    while thread.is_alive():
        assert ping(one) is True
    assert ping(one) is True
    assert vdsm.wire()["connections"] == 1
    vdsm.release()
    wait_until(late[0])


def test_a_vdsm_without_a_sign_of_life_is_given_up(vdsm: Vdsm, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_HEART_BEAT_MS", 200)
    monkeypatch.setattr(connection_module, "_HEART_BEAT_GRACE_SECONDS", 1.0)
    one = connect(vdsm)
    ping(one)
    time.sleep(2)  # heart-beats show that vdsm is alive
    assert vdsm.wire()["connections"] == 1
    vdsm.heart_beats = False
    vdsm.drop()
    wait_until(lambda: can_ping(one))
    wait_until(lambda: vdsm.wire()["clients"] == 0)


def test_a_vdsm_that_restarts_is_found_again(vdsm: Vdsm, one: VdsmConnection) -> None:
    ping(one)
    vdsm.stop()
    wait_until(lambda: "cannot be reached" in refused(one).message)
    one._retry_at = time.monotonic() + 600.0
    began = time.monotonic()
    refused(one, 1200.0)
    assert time.monotonic() - began < 30, "while it is much too early to try again, nobody waits"
    one._retry_at = 0.0
    vdsm.start()

    wait_until(lambda: can_ping(one))
    assert one.opened == 2


def test_closing_fails_what_waits_and_leaves_no_thread(vdsm: Vdsm, one: VdsmConnection) -> None:
    vdsm.fault("Host.ping2", how="never")
    errors: list[HypervisorError] = []
    thread = threading.Thread(target=lambda: errors.append(refused(one, 600.0)))
    thread.start()
    wait_until(lambda: "SEND" in vdsm.wire()["frames"])
    one.close(60.0)
    thread.join(60)
    assert "closed" in errors[0].message
    assert not any(other.name == "vdsm-connection" and other.is_alive() for other in threading.enumerate())
    assert "closed" in refused(one).message


@pytest.mark.parametrize("tls12", [False, True])
def test_all_of_it_over_tls(start_vdsm: Callable[..., Vdsm], connect: Connect, pki: Path, tls12: bool) -> None:
    vdsm = start_vdsm(pki=pki, tls12=tls12)
    vdsm.add(*({"id": str(number), "name": "x" * 3000} for number in range(100)))
    one = connect(vdsm, pki)
    found = one.call("Host.getAllVmStats", {}, 60.0, "reading")
    assert isinstance(found, list)
    assert len(found) == 100
    assert one.peer_certificate_ends is not None
    vdsm.piece = 1000
    assert ping(one) is True
    one.close(60.0)
    wait_until(lambda: vdsm.wire()["clients"] == 0)
