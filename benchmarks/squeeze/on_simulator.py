"""Squeeze of a mix on the simulated host."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peers
from days import STEP_SECONDS
from guests_told import SLOTS_PER_SECOND
from managers import REFUSES
from merit import WINDOW_SECONDS, Moment, taken_at_work
from mixes import BALLAST_SECONDS, LEAD_SECONDS, TOUCHES, Member, Mix

from mom_kvm import SimulationSetup
from mom_plugins_sim.scenario.scene import scene_of
from mom_plugins_sim.scenario.schema import read_scenario
from mom_plugins_sim.simulate.command import run_scenario
from mom_plugins_sim.world import World

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from emulation import EMULATED_BALLOON, EMULATOR_MIB  # only found from here on

KIB = 1024
PAGE_KIB = 4
HOST_GIB = 24.0
INTERVAL = "5s"

SETUPS = {
    "mom": SimulationSetup("mom", plugins={"balloon": {}, "ksm": {}}),
    "mom-truthful": SimulationSetup("mom-truthful", plugins={"balloon": {"goal": "truthful"}, "ksm": {}}),
    "mom-offload": SimulationSetup("mom-offload", plugins={"balloon": {}, "ksm": {}, "offload": {}}),
}

DUPLICATE = 0.03
"""Ratio of a guest's memory that is equal in all guests: their kernel."""


def scenario(mix: Mix, path: Path, loads: Sequence[dict[str, str]]) -> None:
    """Write a mix as a scenario. Write traces of leaks and days to its folder."""
    protocol = mix.protocol
    lasts, warms = protocol.begins + protocol.seconds, protocol.begins + protocol.warms if protocol.warms else 0.0
    content = {
        "title": "A squeeze",
        "lasts": f"{lasts:g}s",
        "interval": INTERVAL,
        "host": {"memory": f"{HOST_GIB:g}GiB", "zram": f"{protocol.zram}MiB", "load": list(loads)},
        "guests": {member.name: _guest(member, path.parent, lasts, warms) for member in mix.members()},
    }
    path.write_text(json.dumps(content))


def _guest(member: Member, folder: Path, lasts: float, warms: float) -> dict[str, Any]:
    one = member.group
    base = one.base + one.cold
    workload: dict[str, Any] = {"constant": {"use": base / one.memory}}
    trace = [(step * STEP_SECONDS, max(one.base, mib) * KIB) for step, mib in enumerate([*member.day, *member.day[:1]])]
    if one.leak:
        trace = [(second, one.base * KIB + min(one.leaks * KIB, one.leak * second)) for second in range(0, int(lasts) + 1, 5)]
    if trace:
        path = folder / f"{member.name}.csv"
        path.write_text("seconds,kib\n" + "".join(f"{second},{kib}\n" for second, kib in trace))
        workload = {"trace": {"file": path.name}}
    elif one.burst:
        shape = {"base": base / one.memory, "burst": one.burst / one.memory, "duty": one.duty / 100}
        workload = {"bursty": {**shape, "period": f"{one.period}s", "phase": f"{member.phase}s"}}
    return {
        "memory": f"{one.memory}MiB",
        "process": f"{EMULATOR_MIB}MiB",
        "balloon": {"rate": EMULATED_BALLOON, "none": 0 if one.balloon else 1, "reporting": one.reporting, "autodeflate": one.autodeflate},
        **({"small_pieces": min(1.0, one.base / one.burst)} if one.sliced else {}),
        "swap": one.zram / one.memory,
        "workload": workload,
        "files": one.files / one.memory,
        "hot": one.files / one.memory,
        "reads": f"{one.reads}KiB",
        "cached": 1,
        "duplicate": DUPLICATE + (one.cold / one.memory if one.alike else 0),
        "cold": one.cold / one.memory,
        "touches": f"{SLOTS_PER_SECOND * TOUCHES * PAGE_KIB:.0f}KiB",
        **({"warms": f"{warms:g}s"} if warms else {}),
        "statistics": {"period": "2s"},
    }


def simulated(mix: Mix, manager: str) -> dict[str, Any]:
    """Return the result of a squeeze on the simulator, as JSON."""
    protocol = mix.protocol
    with tempfile.TemporaryDirectory(prefix="mom-squeeze-") as folder:
        path = Path(folder) / "scenario.yaml"
        scenario(mix, path, ())
        first = _world(path, protocol.settle).host.available / KIB - protocol.available + protocol.emulator * mix.count
        ballast = {"at": f"{protocol.settle}s", "lasts": "1d", "memory": f"{first:.0f}MiB", "growth": "2GiB"}
        most = protocol.ramp * (protocol.warms or protocol.seconds)
        ramp = {"at": f"{protocol.begins:g}s", "lasts": "1d", "memory": f"{most:.0f}MiB", "growth": f"{protocol.ramp * KIB:.0f}KiB"}
        scenario(mix, path, (ballast, ramp))
        before = _world(path, protocol.settle + BALLAST_SECONDS)
        lost = _lost(before)
        while before.time < protocol.begins - LEAD_SECONDS:
            before.step(1.0)
        unsqueezed = 1.0 - (_lost(before) - lost) / (protocol.reference * mix.count)
        seen = _mom(path, SETUPS[manager]) if manager in SETUPS else _peer(path, manager, protocol.begins - LEAD_SECONDS)
        return _outcome(mix, seen, unsqueezed) | {"manager": manager}


def _world(path: Path, until: float) -> World:
    """Return the simulated world of a scenario at that time (s), without a manager."""
    world = World(scene_of(read_scenario(path), path.parent))
    while world.time < until:
        world.step(1.0)
    return world


def _lost(world: World) -> float:
    """Return how many seconds of work all guests have lost."""
    return sum(guest.memory.lost_seconds for guest in world.guests.values())


Seen = tuple[float, float, float, float, str]
"""Time (s), available memory (MiB), lost seconds of work and kills so far, and the host's state by the manager."""


def _mom(path: Path, setup: SimulationSetup) -> Iterator[Seen]:
    read = read_scenario(path)
    for report in run_scenario(read, path, setup, None, read.lasts):
        fields = report.snapshot.host.fields
        available, lost, killed = (fields.get(name) for name in ("mem_really_available", "sim_lost", "sim_killed"))
        if isinstance(available, int | float) and isinstance(lost, int | float) and isinstance(killed, int | float):
            state = fields.get("host_memory_state")
            yield report.snapshot.monotonic, available / KIB, lost, killed, state if isinstance(state, str) else ""


def _peer(path: Path, manager: str, start: float) -> Iterator[Seen]:
    """Run another manager's law on the simulated world, without mom."""
    read = read_scenario(path)
    world = World(scene_of(read, path.parent))
    history: deque[peers.Sample] = deque(maxlen=peers.MOM_SAMPLES)
    while world.time < read.lasts:
        world.step(1.0)
        now = world.time - start
        if now >= 0:
            if manager == "mom-original" and now % peers.MOM_SAMPLE_SECONDS == 0:
                history.append(_sample(world, 0.0))
                if now % peers.MOM_SECONDS == 0:
                    _resize(world, peers.mom_targets(list(history)))
                    _tune(world)
            if manager == "pve" and now % peers.PVE_SECONDS == 0:
                _resize(world, peers.pve_targets(*_sample(world, peers.PVE_LEAST)))
            if manager == "ksm" and now % peers.KSMTUNED_SECONDS == 0:
                _tune(world)
        killed = sum(guest.memory.killed for guest in world.guests.values())
        yield world.time, world.host.available / KIB, _lost(world), killed, ""


def _sample(world: World, least: float) -> peers.Sample:
    host = world.host
    guests = {}
    for identity, guest in world.guests.items():
        unused, memory = guest.statistics.latest.mem_unused, guest.memory
        if unused is not None:
            guests[identity] = peers.GuestSeen(memory.size, memory.maximum, unused, least * memory.maximum)
    return peers.HostSeen(host.total, host.available, host.available), guests


def _resize(world: World, targets: dict[str, float]) -> None:
    for identity, size in targets.items():
        world.resize(identity, int(size))


def _tune(world: World) -> None:
    host, knobs = world.host, world.ksm.read()
    pages = knobs.get("pages_to_scan")
    committed = sum(guest.memory.maximum + guest.memory.traits.qemu_overhead for guest in world.guests.values())
    wish = peers.ksmtuned(pages if isinstance(pages, int) else 100, host.total, committed, host.available)
    world.ksm.write({"run": int(wish.run), "pages_to_scan": wish.pages, "sleep_millisecs": wish.sleep_ms})


def _outcome(mix: Mix, seen: Iterator[Seen], unsqueezed: float) -> dict[str, Any]:
    protocol, begin = mix.protocol, mix.protocol.begins
    trace: list[Moment] = []
    past: deque[tuple[float, float]] = deque()
    ended, killed_before = "end of the ramp", 0.0
    for now, available, lost, killed, says in seen:
        past.append((now, lost))
        while now - past[0][0] > WINDOW_SECONDS:
            past.popleft()
        if now < begin:
            killed_before = killed
            continue
        passed = now - past[0][0]
        work = (1.0 - (lost - past[0][1]) / (passed * mix.count)) / unsqueezed if passed else 1.0
        taken = protocol.ramp * min(now - begin, protocol.warms or now - begin)
        kills = int(killed - killed_before)
        trace.append(Moment(now - begin, taken, available, 0.0, 0.0, 0.0, work, kills, 0.0, {}, says))
        if kills:
            ended = "guest workload killed"
        elif available < protocol.floor:
            ended = "host exhausted"
        elif says in REFUSES and not protocol.zram:
            ended = "manager refuses"
        if ended != "end of the ramp" or now - begin > protocol.seconds:
            break
    return {"ended": ended, "taken": round(taken_at_work(trace)), "seconds": round(trace[-1].time) if trace else 0}
