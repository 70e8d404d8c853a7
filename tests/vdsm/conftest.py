"""Fixtures: vdsm peers, certificates, and connections."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from vdsm_peer import Vdsm
from vdsm_pki import Ca, make_ca, write_pki

from mom_core import PluginContext, StateFile
from mom_kvm import Address
from mom_plugins_vdsm.connection import VdsmConnection
from mom_plugins_vdsm.hypervisor import HypervisorSettings, VdsmHypervisor
from mom_plugins_vdsm.incarnations import FORM, Incarnations

LOG = logging.getLogger("mom.plugin.vdsm")


@pytest.fixture(scope="session")
def ca() -> Ca:
    return make_ca()


@pytest.fixture
def pki(tmp_path: Path, ca: Ca) -> Path:
    return write_pki(tmp_path / "pki", ca)


@pytest.fixture
def start_vdsm() -> Iterator[Callable[..., Vdsm]]:
    """Return a function that starts a vdsm peer with these options."""
    with ExitStack() as started:

        def start(**options: Any) -> Vdsm:
            vdsm = Vdsm(**options)
            started.callback(vdsm.end)
            return vdsm

        yield start


@pytest.fixture
def vdsm(start_vdsm: Callable[..., Vdsm], tmp_path: Path) -> Vdsm:
    """Return a vdsm peer without TLS, with a folder for KSM's files."""
    return start_vdsm(ksm=tmp_path)


@pytest.fixture
def connect() -> Iterator[Callable[..., VdsmConnection]]:
    """Return a function that makes a connection. A connection opens when it is first used."""
    with ExitStack() as made:

        def make(vdsm: Vdsm, pki: Path | None = None, *, largest: int = 2 << 20) -> VdsmConnection:
            connection = VdsmConnection(Address(host="127.0.0.1", port=vdsm.port), pki, LOG, largest)
            connection.start()
            made.callback(connection.close, 60.0)
            return connection

        yield make


@pytest.fixture
def hypervisor(vdsm: Vdsm, connect: Callable[..., VdsmConnection], tmp_path: Path) -> VdsmHypervisor:
    """Return a hypervisor on the peer without TLS, with the shortest cache times."""
    marks = Incarnations(StateFile(tmp_path / "guests.json", "guests' starts", FORM), "boot", time.monotonic)
    settings = HypervisorSettings(answer_timeout=60.0, call_timeout=60.0, statistics_kept=600.0)
    return VdsmHypervisor(connect(vdsm), settings, marks, PluginContext("vdsm"))
