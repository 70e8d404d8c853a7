"""The peer asks mom as vdsm does: impatient, silent after a failure, with all parameters each time, and broken by a fault."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

import pytest
import vdsm_manager
from vdsm_manager import KSM_KEYS, Manager, Unavailable

STATISTICS = {**dict.fromkeys(KSM_KEYS, 0), "ksm_run": 1, "ksm_pages_sharing": 1 << 20}


class _Handler(SimpleXMLRPCRequestHandler):
    disable_nagle_algorithm = False  # there is none on a unix socket

    def address_string(self) -> str:
        return "vdsm"

    def log_message(self, *_: object) -> None:
        pass


class Mom(socketserver.ThreadingMixIn, socketserver.UnixStreamServer, SimpleXMLRPCDispatcher):
    """A mom of a few verbs."""

    daemon_threads = True
    logRequests = False  # noqa: N815  # the library's name

    def __init__(self, path: str) -> None:
        SimpleXMLRPCDispatcher.__init__(self, allow_none=True)
        self.set: list[tuple[str, str]] = []
        self.statistics: Callable[[], object] = lambda: {"host": STATISTICS}
        self.pings = 0
        self.register_function(self._ping, "ping")
        self.register_function(self._statistics, "getStatistics")
        self.register_function(self._set_named_policy, "setNamedPolicy")
        socketserver.UnixStreamServer.__init__(self, path, _Handler)

    def _statistics(self) -> Any:
        return self.statistics()

    def _set_named_policy(self, name: Any, text: Any) -> bool:
        self.set.append((name, text))
        return True

    def handle_error(self, *_: object) -> None:
        """Who asked has hung up: vdsm is like that."""

    def _ping(self) -> bool:
        self.pings += 1
        return True


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vdsm_manager, "TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(vdsm_manager, "SILENCE_SECONDS", 600.0)


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[Mom]:
    one = Mom(str(tmp_path / "mom.sock"))
    thread = threading.Thread(target=one.serve_forever, args=(0.05,))
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(str(tmp_path / "mom.sock"))


def test_an_active_mom_gives_five_numbers(mom: Mom, manager: Manager) -> None:
    assert manager.statistics() == {
        "momStatus": "active", "ksmState": True, "ksmMergeAcrossNodes": False, "ksmPages": 0, "memShared": 4096, "ksmCpu": 0,
    }  # fmt: skip


def test_without_mom_setters_succeed_all_the_same_and_it_is_silent_for_a_while(manager: Manager, tmp_path: Path) -> None:
    assert manager.statistics() == {"momStatus": "inactive"}
    mom = Mom(str(tmp_path / "mom.sock"))
    thread = threading.Thread(target=mom.serve_forever, args=(0.05,))
    thread.start()
    try:
        manager.set_parameters({"a": 1})
        assert manager.statistics() == {"momStatus": "inactive"}
        assert (mom.pings, mom.set) == (0, [])
        manager._silent_until = 0.0
        assert manager.statistics()["momStatus"] == "active"
    finally:
        mom.shutdown()
        thread.join()
        mom.server_close()


def test_a_mom_that_hangs_costs_its_time_once(mom: Mom, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vdsm_manager, "TIMEOUT_SECONDS", 0.2)
    release = threading.Event()
    mom.statistics = lambda: release.wait(600)
    began = time.monotonic()
    assert manager.statistics() == {"momStatus": "inactive"}
    assert 0.2 <= time.monotonic() - began < 30
    with pytest.raises(Unavailable):
        manager._call("ping")
    release.set()


def test_a_fault_or_a_missing_number_breaks_the_whole_answer(mom: Mom, manager: Manager) -> None:
    mom.statistics = lambda: {"host": {"ksm_run": 1}}
    with pytest.raises(KeyError):
        manager.statistics()
    mom.statistics = lambda: 1 // 0
    with pytest.raises(Fault):
        manager.statistics()


def test_all_parameters_go_each_time_one_a_line(mom: Mom, manager: Manager) -> None:
    manager.set_parameters({"balloonEnabled": True, "x": 0.25})
    manager.set_parameters({"name": "it's"})
    assert mom.set[-1] == ("01-parameters", '(set balloonEnabled True)\n(set x 0.25)\n(set name "it\'s")')
