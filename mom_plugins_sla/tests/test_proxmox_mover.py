"""Proxmox VE's documented API on a real HTTP server: requests, and handling of answers."""

import json
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from movers_server import Request, Server

from mom_core import Entity, HypervisorError, PluginContext, Scope
from mom_kvm import Destination
from mom_plugins_sla.eviction.movers.mover import MoveJob, MoveStanding
from mom_plugins_sla.eviction.movers.proxmox import ProxmoxMoverPlugin
from mom_plugins_sla.eviction.movers.server_api import UnclearAnswerError

UUID = "6f2c7c1e-0000-4000-8000-000000000001"
UPID = "UPID:pve1:000AE992:00A21BA7:618C1D55:qmigrate:101:mom@pve!mover:"
JOB = MoveJob(Entity(Scope.GUEST, UUID, "web"), Destination.parse("host://pve2"), "ab12", 60.0, 1_700_000_000.5)
BEGUN = MoveJob(JOB.guest, JOB.destination, JOB.id, JOB.seconds, JOB.time, UPID)


class Cluster:
    """Node with three guests; two have the same name."""

    def __init__(self, server: Server) -> None:
        self.migrate: tuple[int, object] = (200, {"data": UPID})
        self.status: object = {"status": "running"}
        server.answer = self.answer

    def answer(self, request: Request) -> tuple[int, bytes]:
        status, content = self._answer(request.method, urlsplit(request.path).path)
        return status, json.dumps(content).encode()

    def _answer(self, method: str, path: str) -> tuple[int, object]:
        node = "/api2/json/nodes/pve1"
        guests = [{"vmid": 100, "name": "web"}, {"vmid": 101, "name": "web"}, {"vmid": 102, "name": "db"}]
        uuids = {"100": "99999999-0000-4000-8000-000000000000", "101": UUID.upper()}
        if (method, path) == ("GET", f"{node}/qemu"):
            return 200, {"data": guests}
        if path.endswith("/config"):
            return 200, {"data": {"smbios1": f"uuid={uuids.get(path.split('/')[-2], '')},family=x"}}
        if path.endswith("/migrate"):
            return self.migrate
        if path.startswith(f"{node}/tasks/"):
            return 200, {"data": self.status if method == "GET" else None}
        return 404, {"message": "no such path"}


@pytest.fixture
def cluster(server: Server) -> Cluster:
    return Cluster(server)


@pytest.fixture
def mover(server: Server, cluster: Cluster, secret: Path) -> ProxmoxMoverPlugin:
    return made(server, secret)


def made(server: Server, secret: Path, *, local_disks: bool = False) -> ProxmoxMoverPlugin:
    settings = ProxmoxMoverPlugin.Settings(url=server.url, token=secret, node="pve1", local_disks=local_disks)
    return ProxmoxMoverPlugin(settings, PluginContext(name="proxmox_mover"))


def test_the_guest_of_that_uuid_is_moved_while_it_runs_by_one_task(server: Server, mover: ProxmoxMoverPlugin) -> None:
    assert mover.begin(JOB) == UPID
    assert server.asked == [
        ("GET", "/api2/json/nodes/pve1/qemu"),
        ("GET", "/api2/json/nodes/pve1/qemu/100/config"),
        ("GET", "/api2/json/nodes/pve1/qemu/101/config"),
        ("POST", "/api2/json/nodes/pve1/qemu/101/migrate"),
    ]
    assert parse_qs(server.got[-1].body.decode()) == {"target": ["pve2"], "online": ["1"]}
    assert server.got[-1].headers["content-type"] == "application/x-www-form-urlencoded"
    assert {one.headers["authorization"] for one in server.got} == {"PVEAPIToken=mom@pve!mover=0123456789abcdef0123456789abcdef"}


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ({"status": "running"}, "running"),
        ({"status": "stopped", "exitstatus": "OK"}, "done"),
        ({"status": "stopped", "exitstatus": "WARNINGS: 1"}, "done"),
        ({"status": "stopped", "exitstatus": "migration aborted"}, "failed"),
        ({"status": "stopped"}, "unknown"),
        ({"status": "queued", "exitstatus": "OK"}, "unknown"),
        ([], "unknown"),
    ],
)
def test_its_task_says_how_it_is(server: Server, cluster: Cluster, mover: ProxmoxMoverPlugin, status: object, standing: str) -> None:
    cluster.status = status
    assert mover.look(BEGUN).standing == standing
    assert [(method, unquote(path)) for method, path in server.asked] == [("GET", f"/api2/json/nodes/pve1/tasks/{UPID}/status")]


def test_a_move_is_given_up_by_ending_its_task(server: Server, mover: ProxmoxMoverPlugin) -> None:
    mover.cancel(BEGUN)
    assert [(method, unquote(path)) for method, path in server.asked] == [("DELETE", f"/api2/json/nodes/pve1/tasks/{UPID}")]


def test_of_a_move_whose_task_is_not_known_none_is_ended(server: Server, mover: ProxmoxMoverPlugin) -> None:
    mover.cancel(JOB)
    assert mover.look(JOB).standing is MoveStanding.UNKNOWN
    assert server.asked == []


@pytest.mark.parametrize("unclear", ["/qemu", "/config"])
def test_where_what_is_asked_before_has_no_clear_answer_nothing_was_begun(
    server: Server, cluster: Cluster, mover: ProxmoxMoverPlugin, unclear: str
) -> None:
    server.answer = lambda request: (502, b"") if urlsplit(request.path).path.endswith(unclear) else cluster.answer(request)
    with pytest.raises(HypervisorError, match="answers with status 502"):
        mover.begin(JOB)
    assert "POST" not in {method for method, _ in server.asked}


@pytest.mark.parametrize(
    ("guests", "config"),
    [
        (None, None),
        (["web", {"vmid": 101}, {"name": "web"}, {"vmid": [101], "name": "web"}, {"vmid": "1/../101", "name": "web"}], None),
        ([{"vmid": 101, "name": "web"}], {"smbios1": 5}),
        ([{"vmid": 101, "name": "web"}], {"smbios1": "family=x"}),
    ],
)
def test_a_guest_that_the_cluster_does_not_tell_of_as_it_should_is_not_moved(
    server: Server, mover: ProxmoxMoverPlugin, guests: object, config: object
) -> None:
    server.answer = lambda request: (200, json.dumps({"data": guests if request.path.endswith("/qemu") else config}).encode())
    with pytest.raises(HypervisorError, match="no guest web on pve1"):
        mover.begin(JOB)
    assert {path for _, path in server.asked} <= {f"/api2/json/nodes/pve1/qemu{end}" for end in ("", "/101/config")}


@pytest.mark.long
def test_a_refusal_has_begun_nothing_and_no_clear_answer_may_have(server: Server, cluster: Cluster, mover: ProxmoxMoverPlugin) -> None:
    for status in (400, 403, 500):
        cluster.migrate = (status, {"message": "VM is locked (backup)"})
        with pytest.raises(HypervisorError, match=rf"refuses \({status}\): VM is locked"):
            mover.begin(JOB)
    for upid in (None, "UPID:../../x"):
        cluster.migrate = (200, {"data": upid})
        assert mover.begin(JOB) == ""
    for status in (596, 0):
        cluster.migrate = (status, {})
        with pytest.raises(UnclearAnswerError):
            mover.begin(JOB)


def test_local_disks_are_moved_only_if_the_setting_allows_it(server: Server, cluster: Cluster, secret: Path) -> None:
    assert made(server, secret, local_disks=True).begin(JOB) == UPID
    assert parse_qs(server.got[-1].body.decode())["with-local-disks"] == ["1"]


def test_a_guest_whose_number_is_not_certain_is_not_moved(server: Server, mover: ProxmoxMoverPlugin) -> None:
    for name, identity in (("web", "11111111-0000-4000-8000-000000000000"), ("db", UUID), ("../web", UUID)):
        with pytest.raises(HypervisorError, match="no guest"):
            mover.begin(MoveJob(Entity(Scope.GUEST, identity, name), JOB.destination, "x", 60.0))
    assert not any(method == "POST" for method, _ in server.asked)


def test_it_takes_names_of_other_nodes_only(mover: ProxmoxMoverPlugin) -> None:
    assert not mover.why_not(JOB.destination)
    for other in (
        Destination.ANYWHERE,
        Destination.parse("qemu+tls://pve2/system"),
        Destination.parse("host://pve1"),
        Destination.parse("host://10.0.0.2"),
    ):
        assert mover.why_not(other)
