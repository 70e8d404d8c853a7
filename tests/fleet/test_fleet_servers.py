"""Three servers for a fleet, of which one goes away: the others are enough."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_world import NATS_SERVER, free_port, need_a_server, port_of

from mom_plugins_fleet.link import Access, LinkError, Store, linked
from mom_plugins_fleet.records import Member
from mom_plugins_fleet.subjects import ROSTER

LOG = logging.getLogger("mom.fleet.test")
WAIT_SECONDS = 120.0


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[list[str], list[subprocess.Popen[bytes]]]]:
    """Their addresses, and their processes."""
    need_a_server()
    places = [free_port() for _ in range(6)]
    clients, routes = [port_of(one) for one in places[:3]], [port_of(one) for one in places[3:]]
    named = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, (client, route) in enumerate(zip(clients, routes, strict=True)):
            config = tmp_path / f"s{number}.conf"
            config.write_text(
                f'listen: "127.0.0.1:{client}"\nserver_name: s{number}\njetstream {{ store_dir: "{tmp_path}/js{number}" }}\n'
                f'cluster {{ name: mom, listen: "127.0.0.1:{route}", routes: [{named}] }}\n'
            )
            processes.append(subprocess.Popen([NATS_SERVER, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield [f"nats://localhost:{port}" for port in clients], processes
    finally:
        for process in processes:
            process.kill()
            process.wait(60)
        for place in places:
            place.close()


async def made(store: Store) -> None:
    """As soon as the servers have found each other."""
    ends = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            await store.make(3)
            for number in range(5):
                await store.put(ROSTER, f"h{number}", Member(group="g").packed())
            return
        except LinkError:
            assert time.monotonic() < ends
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("how", ["it is killed", "it hangs"])
def test_with_one_of_three_servers_away_everything_can_be_read(how: str, three: tuple[list[str], list[subprocess.Popen[bytes]]]) -> None:
    servers, processes = three

    async def work() -> None:
        async with linked(Access(servers[:1]), "operator", LOG, patient=True) as store:
            await made(store)
            if how == "it is killed":
                processes[2].kill()
                processes[2].wait(60)
            else:
                processes[2].send_signal(signal.SIGSTOP)
            ends = time.monotonic() + WAIT_SECONDS
            while True:  # a bucket that was led there gets another leader
                try:
                    await store.put(ROSTER, "h5", Member(group="g").packed())
                    break
                except LinkError:
                    assert time.monotonic() < ends
                    await asyncio.sleep(0.2)
            for _ in range(12):
                assert len(await store.load(ROSTER)) == 6

    asyncio.run(asyncio.wait_for(work(), 4 * WAIT_SECONDS))
