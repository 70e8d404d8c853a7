"""Simple hypervisor, and the plugin on it."""

import pytest
from guest_facts import GIB, MIB

from mom_core import Guest, GuestGone, PluginContext, Snapshot
from mom_plugins_balloon import BalloonPlugin


class FakeHypervisor:
    """Hypervisor with guests' sizes in KiB, keyed by ID. Balloons move by `speed` between two readings. Commands are recorded."""

    uri = "fake:///"

    def __init__(self, sizes, speed=GIB):
        self.sizes = dict(sizes)
        self.targets = {}
        self.speed = speed
        self.commands = []
        self.reads = 0
        self.errors = {}
        self.incarnations = {}
        self.unreachable = None

    def guests(self):
        if self.unreachable:
            raise self.unreachable
        return [Guest(i, f"name-{i}", incarnation=self.incarnations.get(i, "")) for i in sorted(self.sizes)]

    def set_balloon(self, guest, target_kib):
        self.commands.append((guest.id, target_kib))
        if guest.id in self.errors:
            raise self.errors[guest.id]
        if guest.id not in self.sizes:
            raise GuestGone("no such guest")
        self.targets[guest.id] = target_kib

    def balloon_sizes(self, guests):
        self.reads += 1
        if self.unreachable:
            raise self.unreachable
        for identity, target in self.targets.items():
            size = self.sizes[identity]
            self.sizes[identity] = max(target, size - self.speed) if size > target else min(target, size + self.speed)
        return {guest.id: self.sizes[guest.id] for guest in guests if self.sizes.get(guest.id) is not None}


class NoBalloons:
    """Hypervisor that cannot resize guests."""

    uri = "none:///"

    def guests(self):
        return []


@pytest.fixture
def no_balloons():
    return NoBalloons()


@pytest.fixture
def hypervisor():
    return FakeHypervisor({"a": 2 * GIB, "b": 2 * GIB, "c": 2 * GIB})


@pytest.fixture
def context(tmp_path):
    return PluginContext(name="balloon", interval=5.0, state_directory=tmp_path / "state")


@pytest.fixture
def plugin(context):
    return BalloonPlugin(BalloonPlugin.Settings(), context)


@pytest.fixture
def seen_by():
    """Return a function that returns a snapshot of healthy guests with a need of 600 MiB each."""

    def make(hypervisor, now=0.0, **fields):
        guests = {}
        for identity, size in hypervisor.sizes.items():
            known = {"balloon_cur": size, "balloon_max": 2 * GIB, "mem_usable": size - 600 * MIB, "stats_age": 1.0} | fields.get(
                identity, {}
            )
            guests[identity] = Guest(identity, f"name-{identity}", known)
        return Snapshot(guests=guests, monotonic=now)

    return make
