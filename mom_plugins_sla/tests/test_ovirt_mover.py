"""oVirt's documented REST API on a real HTTP server: requests, and handling of answers."""

import base64
import json
from pathlib import Path

import pytest
from movers_server import Server

from mom_core import Entity, HypervisorError, PluginContext, Scope
from mom_kvm import Destination
from mom_plugins_sla.eviction.movers.mover import MoveJob
from mom_plugins_sla.eviction.movers.ovirt import OvirtMoverPlugin
from mom_plugins_sla.eviction.movers.server_api import UnclearAnswerError

VM = "6f2c7c1e-0000-4000-8000-000000000001"
HOST = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
TASK = "7c1e6f2c-0000-4000-8000-000000000002"


def job(destination: str = "anywhere", reference: str = "", vm: str = VM) -> MoveJob:
    return MoveJob(Entity(Scope.GUEST, vm, "web"), Destination.parse(destination), "ab12", 60.0, reference=reference)


def made(server: Server, secret: Path, *, chooses: bool = True) -> OvirtMoverPlugin:
    settings = OvirtMoverPlugin.Settings(url=f"{server.url}/ovirt-engine", password=secret, chooses=chooses)
    return OvirtMoverPlugin(settings, PluginContext(name="ovirt_mover"))


def says(server: Server, content: object, status: int = 200) -> None:
    server.answer = lambda request: (status, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("destination", "action"),
    [("anywhere", {}), (f"host://{HOST}", {"host": {"id": HOST}}), ("host://node2.example.org", {"host": {"name": "node2.example.org"}})],
)
def test_the_engine_moves_the_machine_to_the_host_said_or_chosen(server: Server, secret: Path, destination: str, action: object) -> None:
    says(server, {"status": "complete", "job": {"id": TASK}})
    assert made(server, secret).begin(job(destination)) == TASK
    (request,) = server.got
    assert (request.method, request.path) == ("POST", f"/ovirt-engine/api/vms/{VM}/migrate")
    assert json.loads(request.body) == action
    assert request.headers["authorization"] == "Basic " + base64.b64encode(secret.read_bytes().strip()).decode()
    assert (request.headers["version"], request.headers["accept"], request.headers["content-type"]) == ("4", *["application/json"] * 2)


@pytest.mark.parametrize(
    ("status", "standing"),
    [("started", "running"), ("finished", "done"), ("failed", "failed"), ("aborted", "failed"), ("unknown", "unknown"), (None, "unknown")],
)
def test_the_engines_job_says_how_it_is(server: Server, secret: Path, status: object, standing: str) -> None:
    says(server, {"status": status, "description": "Migrating VM web"})
    assert made(server, secret).look(job(reference=TASK)).standing == standing
    assert server.asked == [("GET", f"/ovirt-engine/api/jobs/{TASK}")]


def test_a_move_is_given_up_by_the_action_for_that(server: Server, secret: Path) -> None:
    made(server, secret).cancel(job())
    assert server.asked == [("POST", f"/ovirt-engine/api/vms/{VM}/cancelmigration")]
    assert server.got[0].body == b"{}"


def test_a_refusal_has_begun_nothing_and_no_clear_answer_may_have(server: Server, secret: Path) -> None:
    mover = made(server, secret)
    says(server, {"reason": "Operation Failed", "detail": "[Cannot migrate VM. There is no host that satisfies it.]"}, 409)
    with pytest.raises(HypervisorError, match="Cannot migrate VM"):
        mover.begin(job())
    says(server, {"status": "failed", "fault": {"detail": "no host"}})
    with pytest.raises(HypervisorError, match="no host"):
        mover.begin(job())
    for task in (None, {"id": "../../x"}):
        says(server, {"job": task})
        assert mover.begin(job()) == ""
    for status in (503, 0):
        says(server, {}, status)
        with pytest.raises(UnclearAnswerError):
            mover.begin(job())
    server.got.clear()
    with pytest.raises(HypervisorError, match="is not a UUID"):
        mover.begin(job(vm="../hosts/1"))
    assert server.got == []


def test_who_chooses_the_host_is_the_settings(server: Server, secret: Path) -> None:
    chooses, told = made(server, secret), made(server, secret, chooses=False)
    assert not chooses.why_not(Destination.ANYWHERE)
    assert chooses.why_not(Destination.parse("host://h2"))
    assert not told.why_not(Destination.parse("host://h2"))
    assert told.why_not(Destination.ANYWHERE)
    assert told.why_not(Destination.parse("qemu+tls://h2/system"))
