"""With any damage to state files, mom starts, runs cycles, and names the damaged file."""

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from state_contents import BOOT, CONTENTS, GUEST

from mom_core import Clock, Engine, MomError, PluginContext, Report, StateFile, load_config
from mom_core.lock import holder
from mom_daemon.status_file import read_status
from mom_kvm import PolicyTexts
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import FORM as FOLLOWED_FORM
from mom_plugins_fleet.signatures import WHAT as FOLLOWED
from mom_plugins_fleet.signatures import SeenRevisions
from mom_plugins_policy import PolicyPlugin
from mom_plugins_record import ForecastPlugin
from mom_plugins_vdsm.incarnations import FORM, Incarnations
from mom_plugins_vdsm.statistics import Vm

CURVE: Final = "gESARIBE" * 32
"""Curve of 96 sizes of 1 MiB, two bytes each."""

BESIDE: Final[Mapping[str, Any]] = {
    "vdsm/guests.json": {"boot": BOOT, "guests": {GUEST: ["0123456789ab", 12.5]}, "boot_time": 1_700_000_000.0},
    "fleet/group.json": {
        "group": "g1",
        "signed": '{"by": "U", "revision": 3, "signature": ""}\n{"policies": {"60_fleet_a": "(defvar a 1)"}}',
    },
    "fleet/revisions.json": {"revisions": {"mom-roster h1": 7}, "moves": [{"guest": GUEST, "order": 7, "state": "done", "error": ""}]},
    "forecast/days.json": {
        "day": 86_400.0, "margin": 2048.0, "usual": 1e6, "host": "h", "host_kib": None, "promisable_kib": 4e6,
        "guests": [{
            "id": GUEST, "name": "vm", "present_at": 1_700_000_000,
            "days": {
                **dict.fromkeys(("by_day", "last", "excess", "growth"), CURVE), "by_week": 7 * CURVE, "hour_errors": CURVE[:64],
                "usual": None, "losses": [0.0] * 3, "week_losses": [0.0] * 3, "wrong": [0.0] * 4, "lasting": [0.0] * 2, "margin": 0.0,
                "average": 4e6, "weight": 1.0, "slots": 96, "has_pattern": False,
            },
            "past": {"ordinals": [], "sold": [], "used": "", "qemu_kib": 0, "vcpus": 0},
        }],
    },
}  # fmt: skip
"""Contents for plugins that cannot be enabled beside the others."""

ROUNDS: Final = 15
"""Number of starts of mom. Before each start, every file is damaged in another way."""


def written(folder: Path, name: str, content: object, version: int = 1) -> bytes:
    """Write a state file as mom does. Return its bytes."""
    StateFile(folder / name, "a file", lambda found: found, version=version).write(content, durable=False)
    return (folder / name).read_bytes()


def dice(seed: int) -> random.Random:
    """Return a random generator that gives the same numbers in each run."""
    return random.Random(seed)  # noqa: S311  # nothing secret is made of it


# --- damage -------------------------------------------------------------------------------------------------------------------


def flipped(chance: random.Random, whole: bytes) -> bytes:
    """Flip some bits."""
    changed = bytearray(whole)
    for place in chance.sample(range(len(whole)), chance.randint(1, 3)):
        changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, whole: bytes) -> bytes:
    """Cut off the end."""
    return whole[: chance.randrange(len(whole))]


def zeroed(chance: random.Random, whole: bytes) -> bytes:
    """Fill the end with zeros, as after a power failure."""
    begin = chance.randrange(len(whole))
    return whole[:begin] + b"\0" * (len(whole) - begin)


def overwritten(chance: random.Random, whole: bytes) -> bytes:
    """Insert random bytes."""
    begin = chance.randrange(len(whole))
    return whole[:begin] + chance.randbytes(chance.randint(1, 40)) + whole[begin:]


def replaced(chance: random.Random, whole: bytes) -> bytes:
    """Return the content of another file."""
    return chance.choice([b"", b"{}", b"[]", b"null", b"[" * 50_000, b"1" * 50_000, b"\xff\xfe", b'{"a":' * 20_000, b"NaN\n", whole * 2])


DAMAGE: Final = (flipped, cut, zeroed, overwritten, replaced)

STRANGE: Final[Sequence[object]] = (
    None, True, -1, 0, 1 << 70, 10**400, 1e308, -1e308, 1.5, "", "x", "\ud800", "9" * 5000, "1e999", [], {}, [[]], [None], {"": None},
    [1, 2, 3], {"a": {"b": {}}},
)  # fmt: skip


def swapped(chance: random.Random, content: Any) -> Any:
    """Return the content with another value in one place."""
    content = json.loads(json.dumps(content))
    places: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        for key in one if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            places.append((one, key))
            walk(one[key])

    walk(content)
    if not places or chance.random() < 0.05:
        return chance.choice(STRANGE)
    where, key = chance.choice(places)
    if isinstance(where, dict) and chance.random() < 0.2:
        del where[key]
    else:
        where[key] = chance.choice(STRANGE)
    return content


# --- mom with all files ---------------------------------------------------------------------------------------------------


class World:
    """Simulated host under mom, with its own clock. Its plugins have all these files."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.now = 100.0
        root = folder / "root"
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text(f"{BOOT}\n")
        self.config: dict[str, Any] = {
            "interval": "5s",
            "root": str(root),
            "state_directory": str(self.state),
            "run_directory": str(folder / "run"),
            "mode": "enforce",
            "plugins": {
                "sim": {"guests": 3}, "balloon": {}, "ksm": {}, "sla": {}, "cgroup": {}, "qos": {}, "eviction": {"enabled": True},
                "policy": {"keep_changes": True},
            },
        }  # fmt: skip

    @contextmanager
    def mom(self) -> Iterator[Engine]:
        """Start mom, and end it without restoring anything."""
        engine = Engine(load_config(self.config), Clock(lambda: self.now, lambda: 1e9 + self.now))
        engine.open()
        try:
            yield engine
        finally:
            engine.close(put_back=False)

    def cycles(self, engine: Engine, count: int = 2) -> Report:
        for _ in range(count):
            self.now += 5
            report = engine.cycle()
        for plugin in report.plugins:
            assert not plugin.failures, f"{plugin.name}: {plugin.last_error}"
        return report


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> World:
    caplog.set_level(logging.CRITICAL, "mom")
    return World(tmp_path)


def test_the_files_of_these_tests_are_those_of_mom(world: World) -> None:
    for name, content in CONTENTS.items():
        written(world.state, name, content)
    with world.mom() as engine:
        files = [file for plugin in engine.plugins.plugins for file in plugin.context.state_files]
        assert {str(file.path.relative_to(world.state)) for file in files} == CONTENTS.keys() - {"ledger.json"}
        assert [problem.message for problem in world.cycles(engine).problems if "damaged" in problem.message] == []
    assert not list(world.state.rglob("*.damaged-*"))
    for path in world.state.rglob("*.json"):
        assert path.read_bytes().startswith(b'{"state":"'), f"{path} is no file of state"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mom_starts_with_files_that_are_damaged_and_says_which(world: World, seed: int) -> None:
    chance = dice(seed)
    damaged = {}
    for name, content in CONTENTS.items():
        whole = written(world.state, name, content)
        damaged[name] = chance.choice(DAMAGE)(chance, whole)
        (world.state / name).write_bytes(damaged[name])
    with world.mom() as engine:
        said = [problem.message for problem in world.cycles(engine).problems]
    for name, text in damaged.items():
        path = world.state / name
        assert any(f"{path} is damaged" in message for message in said), name
        assert path.with_name(f"{path.name}.damaged-1").read_bytes() == text


@pytest.mark.long
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mom_starts_whatever_right_checksums_vouch_for(world: World, seed: int) -> None:
    chance = dice(seed)
    for name, content in CONTENTS.items():
        written(world.state, name, swapped(chance, content))
    with world.mom() as engine:
        world.cycles(engine)
        policies = engine.service(PolicyTexts)
        assert policies is not None
        policies.history()


def test_mom_starts_after_a_later_mom_and_leaves_its_files(world: World) -> None:
    later = {name: written(world.state, name, content, version=2) for name, content in CONTENTS.items() if name != "ledger.json"}
    with world.mom() as engine:
        said = [problem.message for problem in world.cycles(engine).problems]
    for name, text in later.items():
        assert any(f"{world.state / name} was written by a newer mom" in message for message in said), name
        assert (world.state / name).with_name(f"{Path(name).name}.later-1").read_bytes() == text


# --- other plugins ----------------------------------------------------------------------------------------------------------


def read_guests(folder: Path) -> StateFile[Any]:
    file = StateFile(folder / "vdsm/guests.json", "guests' starts", FORM)
    marks = Incarnations(file, BOOT, lambda: 1000.0)
    assert marks.follow([Vm(GUEST, "vm", "Up", "", 0.0, elapsed=987.5), Vm("b", "b", "Up", "", 0.0)]).keys() == {GUEST, "b"}
    return file


def read_group(folder: Path) -> StateFile[Any]:
    context = PluginContext(name="fleet", state_directory=folder)
    plugin = FleetPlugin(FleetPlugin.Settings(servers=["nats://localhost:1"], host="h1"), context)
    found = plugin.group.remembered()
    assert found is None or found[1].record == Group(), "no operator has signed that"
    return context.state_files[0]


def read_followed(folder: Path) -> StateFile[Any]:
    file = StateFile(folder / "fleet/revisions.json", FOLLOWED, FOLLOWED_FORM)
    followed = SeenRevisions(file)
    followed.load()
    followed.note(followed.moves.values())
    return file


def read_shadow_notes(folder: Path) -> StateFile[Any]:
    shadow = folder / "shadow.d"
    shadow.mkdir(exist_ok=True)
    context = PluginContext(name="policy", state_directory=folder)
    PolicyPlugin(PolicyPlugin.Settings(shadow=shadow), context).mom_setup()
    return next(file for file in context.state_files if file.path.name == "shadow-notes.json")


def read_days(folder: Path) -> StateFile[Any]:
    context = PluginContext(name="forecast", state_directory=folder)
    ForecastPlugin(ForecastPlugin.Settings(), context).mom_setup()
    return context.state_files[0]


READERS: Final[Mapping[str, Callable[[Path], StateFile[Any]]]] = {
    "vdsm/guests.json": read_guests,
    "fleet/group.json": read_group,
    "fleet/revisions.json": read_followed,
    "forecast/days.json": read_days,
    "policy/shadow-notes.json": read_shadow_notes,
}


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_what_other_plugins_keep_may_be_damaged_too(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "mom")
    content = {**CONTENTS, **BESIDE, "policy/shadow-notes.json": CONTENTS["policy/notes.json"]}[name]
    whole = written(tmp_path, name, content)
    assert not READERS[name](tmp_path).damage
    for seed in range(5 * ROUNDS):
        chance = dice(seed)
        (tmp_path / name).write_bytes(text := chance.choice(DAMAGE)(chance, whole))
        assert "is damaged" in READERS[name](tmp_path).damage, text
        written(tmp_path, name, swapped(chance, content))
        READERS[name](tmp_path)


# --- state that ends with a reboot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[" * 4096, '{"pid":1e999}', '{"pid":-1,"command":"x"}', '{"pid":1,"command":[]}', "\0" * 99])
def test_a_damaged_lock_names_nobody(tmp_path: Path, text: str) -> None:
    import fcntl

    with (tmp_path / "mom.lock").open("w+") as lock:
        lock.write(text)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder(tmp_path) == 0


@pytest.mark.parametrize("text", [b"", b"[" * 50_000, b"[]", b'{"monotonic_seconds":1e999}', b'{"monotonic_seconds":1,"format":3}'])
def test_a_damaged_status_is_said(tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_daemon.status_file.holder", lambda directory: 1)
    (tmp_path / "status.json").write_bytes(text)
    with pytest.raises(MomError, match="status file"):
        read_status(tmp_path)
