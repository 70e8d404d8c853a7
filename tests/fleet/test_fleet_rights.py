"""A stolen key of one host gives no access to other hosts. The servers enforce this."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from fleet_world import LOG, FleetWorld

from mom_kvm import Destination
from mom_plugins_fleet import link
from mom_plugins_fleet.accounts import FleetRoot
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, ROSTER, STATES, Bucket, direct, subject
from mom_plugins_fleet.link import LinkError, Store, linked
from mom_plugins_fleet.records import Group, HostState, Member, Move, MoveState, Orders


@pytest.fixture(scope="module", autouse=True)
def two(fleet: FleetWorld) -> None:
    """Enroll two hosts."""
    fleet.enroll("h1")
    fleet.enroll("h2")


def everything(fleet: FleetWorld) -> Mapping[str, bytes | None]:
    """Return the entries of the fleet, keyed by name."""

    async def looked(store: Store) -> Mapping[str, bytes | None]:
        buckets = [Bucket[Any](kind, frozenset()) for kind in (Member, Group, HostState, Orders)]
        for bucket in buckets:
            await store.load(bucket)
        return {f"{bucket.kind.bucket} {key}": kept.data for bucket in buckets for key, kept in bucket.stored.items()}

    return fleet.asked(looked)


def filled(fleet: FleetWorld) -> None:
    async def put(store: Store) -> None:
        await store.put(GROUPS, "g1", Group(policies={"60_fleet_x": "(defvar x 1)"}).packed())
        for host in ("h1", "h2"):
            await store.put(STATES, host, HostState(mode="enforce").packed())
            await store.put(ORDERS, host, Orders(epoch=3).packed())

    fleet.asked(put)


FORGED = Orders(
    epoch=3,
    moves=(
        Move(guest="g", name="g", to="h2", destination=Destination.parse("qemu://h2/system"), takes=1, number=1, state=MoveState.ACCEPTED),
    ),
).packed()


def test_another_hosts_keys_are_refused_and_that_is_said_plainly(fleet: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(fleet)
    before = everything(fleet)
    monkeypatch.setattr(link, "ANSWER_SECONDS", 1.0)  # a server does not answer refused requests
    stolen = fleet.access(fleet.folder / "h1.key")
    written = [(STATES, "h2"), (ORDERS, "h2"), (ORDERS, "h1"), (ROSTER, "h1"), (GROUPS, "g1"), (AUTHORIZED, COORDINATORS)]
    asked = [(STATES, "h2"), (ORDERS, "h2"), (ROSTER, "h2")]

    async def tried() -> None:
        async with linked(stolen, "h1", LOG, patient=False) as store:
            works = (*(store.put(bucket, key, FORGED) for bucket, key in written), *(store.read(bucket, key) for bucket, key in asked))
            for refused in await asyncio.gather(*works, return_exceptions=True):
                assert isinstance(refused, LinkError)
                assert "is this the right key" in refused.hint
            with pytest.raises(LinkError, match="cannot read mom-groups g2"):
                await store.read(GROUPS, "g2")
            monkeypatch.setattr(link, "ANSWER_SECONDS", 60.0)
            await store.put(STATES, "h1", HostState(mode="observe").packed())
            assert (await store.read(ORDERS, "h1")).data == Orders(epoch=3).packed()

    asyncio.run(tried())
    assert {key for key, data in everything(fleet).items() if before[key] != data} == {"mom-states h1"}


def test_an_answer_cannot_be_had_sent_to_another_hosts_key(fleet: FleetWorld) -> None:
    filled(fleet)
    before = everything(fleet)

    async def reflected() -> None:
        async with linked(fleet.access(fleet.folder / "h1.key"), "h1", LOG, patient=False) as store:
            for there in (
                subject(ORDERS, "h1"),
                subject(ORDERS, "h2"),
                subject(STATES, "h2"),
                subject(GROUPS, "g1"),
                subject(ROSTER, "h1"),
                subject(ROSTER, "h2"),
            ):
                await store.client.publish(direct(GROUPS, "g1"), b"", reply=there)
                await store.client.publish(subject(STATES, "h1"), b"{}", reply=there)
            await store.client.flush()
            await store.read(ORDERS, "h1")

    asyncio.run(reflected())
    assert {key for key, data in everything(fleet).items() if before[key] != data} <= {"mom-states h1"}


@pytest.mark.parametrize("how", ["all", "sub"])
def test_a_host_cannot_empty_a_bucket_by_what_it_writes_at_its_own_key(fleet: FleetWorld, how: str) -> None:
    filled(fleet)

    async def emptied() -> None:
        async with linked(fleet.access(fleet.folder / "h1.key"), "h1", LOG, patient=False) as store:
            await store.client.publish(subject(STATES, "h1"), b"{}", headers={"Nats-Rollup": how})
            await store.client.flush()
            await store.read(ORDERS, "h1")

    asyncio.run(emptied())
    assert "mom-states h2" in everything(fleet)


def test_a_key_of_a_host_and_one_of_nobody_change_nothing_and_that_is_said_plainly(
    fleet: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fleet.folder / "x.policy"
    file.write_text("(defvar x 1)")
    home = fleet.folder / "of_a_thief"
    shutil.copytree(fleet.home, home)
    (home / "root.key").unlink()
    shutil.copy(fleet.folder / "h1.key", home / "connect.creds")
    commands = (["policy", "set", "g7", "60_fleet_x", str(file)], ["drain", "h2"], ["enroll", "h7", "--group", "g1"], ["remove", "h2"])
    with monkeypatch.context() as soon:
        soon.setattr(link, "ANSWER_SECONDS", 1.0)
        for command in commands:
            fleet.refused(*command, home=home)
    assert {row["host"]: row["draining"] for row in fleet.status()["hosts"]} == {"h1": False, "h2": False}
    assert json.loads(fleet.fleet("policy", "show", "g7", "--json"))["policies"] == {}
    FleetRoot.make(home / "root.key")
    (home / "connect.creds").write_text(FleetRoot(home / "root.key").operator(fleet.operator))
    assert "cannot be reached" in fleet.refused("status", home=home)
    (home / "connect.creds").chmod(0o644)
    assert "is not secret: every user has access" in fleet.refused("status", home=home)


def test_a_mom_with_another_hosts_key_says_so_and_goes_on_alone(fleet: FleetWorld) -> None:
    fleet.hide(STATES, "h2")
    (fleet.folder / "h2.key").write_text((fleet.folder / "h1.key").read_text())
    fleet.start_host("h2", 2)
    fleet.until(lambda: "is this the right key" in fleet.log("h2"), "it is said")
    config = str(fleet.folder / "h2" / "mom.yaml")

    def cycle() -> int:
        _, told, _ = fleet._run("status", "--json", "-c", config)
        return int(json.loads(told)["cycle"]["number"]) if told else 0

    fleet.until(lambda: cycle() > 0, "it does cycles")
    before = cycle()
    fleet.until(lambda: cycle() > before + 2, "its cycles go on")
    assert fleet.host("h2")["guests"] is None
