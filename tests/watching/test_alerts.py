"""Each shipped alert fires: a real Prometheus scrapes two real moms while their hosts have problems, and recover.

mom then prints what the alerts' pages in docs/runbooks show. One factor shortens all waits of minutes, in the rules and in mom.
"""

import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from everywhere import Shelf
from host_files import meminfo
from prometheus_process import Prometheus, running_prometheus
from runbooks import Shown, commands
from shorter_waits import mom_with
from verbs_in_process import run_verb
from watched_mom import Tunnel

from mom_core.engine import problems as core_problems
from mom_core.plugins import invoker
from mom_devkit import wait_until
from mom_plugins_balloon import harm, problems, sizes

pytestmark = [pytest.mark.processes, pytest.mark.waits]

RULES = Path(__file__).parents[2] / "packaging/prometheus/mom-alerts.yml"

FASTER = 120

GIB = 1 << 20

WAITS = {
    f"{module.__name__}.{name}": getattr(module, name) / FASTER
    for module, names in (
        (core_problems, ("GAP_SECONDS", "PATIENCE_SECONDS")),
        (invoker, ("FIRST_RETRY_SECONDS", "LONGEST_RETRY_SECONDS")),
        (sizes, ("PATIENCE_SECONDS", "ASIDE_SECONDS")),
        (harm, ("KILLED_SECONDS",)),
        (problems, ("RECLAIM_SECONDS",)),
    )
    for name in names
}

PLUGINS = '''
import json, time
from mom_core import Condition, FieldSpec, Guest, HypervisorError, Scope, Severity, Unit, hookimpl


class World:
    """Guests that a folder tells of. They go at once to the size that is asked of them, unless they are stuck, or their QEMU refuses."""

    def __init__(self, folder):
        self.uri, self._folder, self._asked = "world:///", folder, {}

    def told(self):
        if not self._folder.is_dir():
            raise HypervisorError("libvirtd does not answer")
        return {path.stem: json.loads(path.read_text()) for path in self._folder.glob("*.json")}

    def guests(self):
        return [Guest(name, name, properties={"name": name, "uuid": name}) for name in self.told()]

    def set_balloon(self, guest, target_kib):
        if self.told()[guest.name].get("refuses"):
            raise HypervisorError("QEMU refuses")
        self._asked[guest.name] = target_kib

    def balloon_sizes(self, guests):
        told = self.told()
        return {guest.id: self.size(guest.name, told[guest.name]) for guest in guests if guest.name in told}

    def size(self, name, one):
        size = one.get("size", one["maximum"])
        return size if one.get("stuck") else self._asked.get(name, size)


class WorldPlugin:
    def __init__(self, settings, context):
        self._world = World(context.root / "guests")

    @hookimpl
    def mom_hypervisor(self):
        return self._world

    @hookimpl
    def mom_declare(self):
        for name in ("balloon_cur", "balloon_max", "mem_available", "mem_usable", "rss"):
            yield FieldSpec(name, Unit.KIB, Scope.GUEST, "a size", "the folder")
        yield FieldSpec("stats_age", Unit.SECONDS, Scope.GUEST, "how old that is", "the folder")
        yield FieldSpec("guest_oom_kills", Unit.COUNT, Scope.GUEST, "killed programs", "the folder")

    @hookimpl
    def mom_collect_guests(self, guests):
        found, told = {}, self._world.told()
        for guest in guests:
            one = told[guest.name]
            size = self._world.size(guest.name, one)
            figures = {"balloon_max": one["maximum"], "mem_available": size, "mem_usable": size - one["used"], "stats_age": 0.0}
            found[guest.id] = {"balloon_cur": size, "guest_oom_kills": one.get("killed", 0), "rss": one.get("rss"), **figures}
        return found


class Probe:
    """A collector of the operator's own."""

    def __init__(self, settings, context):
        self._root = context.root

    @hookimpl
    def mom_collect_host(self):
        if (self._root / "broken").exists():
            raise OSError("the sensor has gone")
        if (self._root / "slow").exists():
            time.sleep(4)
        return {}

    @hookimpl
    def mom_problems(self):
        if (self._root / "evicting").exists():
            yield Condition("eviction", "the kubelet evicts pods of this node")
        if (self._root / "hot").exists():
            yield Condition("heat", "the host is hot", severity=Severity.WARNING)
'''


def hurried(rules: str) -> str:
    """Return the rules with all times divided by that factor.

    Times are the minutes of `for` and of ranges, and whole numbers of at least 60 seconds in comparisons.
    """
    document = yaml.safe_load(rules)
    for rule in document["groups"][0]["rules"]:
        rule["expr"] = re.sub(r"(?<=\[)(\d+)m(?=\])", _milliseconds, rule["expr"])
        rule["expr"] = re.sub(r"\b(?:[6-9]\d|\d{3,})\b", lambda found: str(int(found[0]) / FASTER), rule["expr"])
        if "for" in rule:
            rule["for"] = re.sub(r"^(\d+)m$", _milliseconds, rule["for"])
    return yaml.safe_dump(document)


def _milliseconds(minutes: re.Match[str]) -> str:
    return f"{int(minutes[1]) * 60_000 // FASTER}ms"


class Host:
    """Host of files, its guests, and its mom.

    :param interval: mom's interval; without CPU for six of them, mom is late and reports it
    """

    def __init__(self, folder: Path, interval: str) -> None:
        self.folder, self.root = folder, folder / "root"
        for name in ("root/guests", "root/proc/pressure"):
            (folder / name).mkdir(parents=True)
        entries = {"world": "mom_test_world:WorldPlugin", "probe": "mom_test_world:Probe"}
        Shelf(folder / "site").add("mom-test-world", entries, {"mom_test_world": PLUGINS})
        plugins = {"host": {}, "world": {}, "probe": {"deadline": "60s"}, "balloon": {}, "policy": {}, "http": {}}
        folders = {"root": "root", "state_directory": "state", "run_directory": "run"}
        config = {
            "interval": interval,
            **{name: str(folder / path) for name, path in folders.items()},
            "mode": "enforce",
            "plugins": plugins,
        }
        (folder / "mom.yaml").write_text(yaml.safe_dump({**config, "guests": {"sold-*": {"guarantee": "100%"}}}))
        self.memory(available=4 * GIB)
        self.pressure(0)
        self.guest("calm", GIB)
        self.guest("growing", GIB, rss=GIB // 8)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [*mom_with(WAITS), "run", "-c", str(self.folder / "mom.yaml")]
            environment = {**os.environ, "PYTHONPATH": str(self.folder / "site")}
            self.mom = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def prints(self, *words: str) -> str:
        return run_verb(*words, "-c", str(self.folder / "mom.yaml"), site=self.folder / "site", COLUMNS="200").stdout

    def shows(self, *alerts: str, guest: str = "", again: Callable[[], None] = lambda: None) -> None:
        """Wait until mom prints what the pages of these alerts show.

        :param guest: name for GUEST in the pages
        :param again: called before each try, for problems that end soon
        """
        pages: dict[tuple[str, ...], list[Shown]] = {}
        for shown in (shown for alert in alerts for shown in commands(alert)):
            pages.setdefault(tuple(word.replace("GUEST", guest) for word in shown.words), []).append(shown)
        for words, several in pages.items():
            self._prints(words, several, again)

    def _prints(self, words: Sequence[str], several: Sequence[Shown], again: Callable[[], None]) -> None:
        printed = ""

        def missing() -> list[str]:
            return [line for shown in several if (line := shown.missing(printed))]

        def is_printed() -> bool:
            nonlocal printed
            again()
            printed = self.prints(*words)
            return not missing()

        wait_until(is_printed, lambda: f"mom {' '.join(words)} lacks {missing()}:\n{printed}", 60)

    def end(self, how: int = signal.SIGTERM) -> None:
        self.mom.send_signal(how)
        self.mom.wait(60)

    def _write(self, path: str, text: str) -> None:
        beside = self.root / "new"
        beside.write_text(text)
        beside.replace(self.root / path)

    def memory(self, available: int) -> None:
        self._write("proc/meminfo", meminfo(8 * GIB, available, MemFree=available, Cached=0, AnonPages=GIB))

    def pressure(self, stalled: float) -> None:
        lines = (f"{kind} avg10={stalled:.2f} avg60={stalled:.2f} avg300=0.00 total=1\n" for kind in ("some", "full"))
        self._write("proc/pressure/memory", "".join(lines))

    def guest(self, name: str, maximum: int, used: int = GIB // 4, **more: object) -> None:
        self._write(f"guests/{name}.json", json.dumps({"maximum": maximum, "used": used, **more}))


class Alerts:
    """Alerts of a Prometheus that scrapes these hosts."""

    def __init__(self, prometheus: Prometheus, told: Callable[[], str]) -> None:
        self._client, self._told = prometheus.client, told
        self.seen: dict[tuple[str, str], str] = {}
        """Summaries of all alerts that have fired, keyed by host and name."""

    def firing(self) -> set[tuple[str, str]]:
        told = self._client.get("/api/v1/alerts").json()["data"]["alerts"]
        found = [(one["labels"], one["annotations"]["summary"]) for one in told if one["state"] == "firing"]
        now = {(labels["instance"], labels["alertname"]): summary for labels, summary in found}
        self.seen |= now
        return set(now)

    def come(self, host: str, *names: str) -> None:
        """Wait until all of these have fired."""
        wanted = {(host, name) for name in names}
        wait_until(lambda: self.firing() and wanted <= set(self.seen), lambda: f"{wanted - set(self.seen)}: {self._told()}", 60)

    def go(self, host: str) -> None:
        """Wait until no alert of the host fires."""
        wait_until(lambda: not any(one == host for one, _ in self.firing()), lambda: f"{self.firing()}: {self._told()}", 60)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def scraping(folder: Path, hosts: dict[str, Host], stack: ExitStack, port: int) -> Alerts:
    """Start a Prometheus that scrapes these hosts, with the shipped rules."""
    tunnels = {name: Tunnel(host.folder / "run/mom.sock") for name, host in hosts.items()}
    targets = [{"targets": [f"localhost:{tunnel.port}"], "labels": {"instance": name}} for name, tunnel in tunnels.items()]
    often = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    (folder / "rules.yml").write_text(hurried(RULES.read_text()))
    scrape = [{"job_name": "mom", "static_configs": targets}]
    config = {"global": often, "rule_files": [str(folder / "rules.yml")], "scrape_configs": scrape}
    for tunnel in tunnels.values():
        stack.callback(tunnel.close)
    prometheus = stack.enter_context(running_prometheus(folder, config, port))

    def told() -> str:
        logs = (folder / "prometheus.log", *(host.folder / "log" for host in hosts.values()))
        return "\n".join(path.read_text()[-3000:] for path in logs)

    wait_until(lambda: prometheus.has(f"count(up == 1) == {len(hosts)}"), told, 60)
    return Alerts(prometheus, told)


def test_every_alert_comes_when_a_host_is_in_trouble_and_goes_when_that_is_over(tmp_path: Path, stack: ExitStack, free_port: int) -> None:
    full, broken = hosts = Host(tmp_path / "full", "500ms"), Host(tmp_path / "broken", "200ms")
    for host in hosts:
        host.start()
        stack.callback(host.end)
    wait_until(lambda: all((host.folder / "run/status.json").exists() for host in hosts), (full.folder / "log").read_text)
    alerts = scraping(tmp_path, {"full": full, "broken": broken}, stack, free_port)
    assert not alerts.firing()

    (full.root / "evicting").touch()
    full.memory(available=GIB // 32)
    full.guest("growing", GIB, rss=GIB // 2)
    full.guest("sold-1", 5 * GIB)
    full.guest("sold-2", 5 * GIB)
    full.guest("stubborn", 4 * GIB, stuck=True)
    full.guest("refusing", 4 * GIB, refuses=True)
    full.guest("starving", 4 * GIB, used=GIB - 1024, size=GIB, stuck=True, killed=0)
    of_a_full_host = ("MomHostFull", "MomGrowthUncovered", "MomHostOversold", "MomCannotApply")
    alerts.come("full", *of_a_full_host, "MomGuestsSuffer", "MomKubeletEvicts")
    full.shows(*of_a_full_host)
    full.shows("MomGuestsSuffer", guest="starving")
    full.shows("MomGuestsDoNotGive", guest="stubborn")
    full.memory(available=GIB // 8)
    alerts.come("full", "MomHostMemoryShort")
    full.shows("MomHostMemoryShort")
    full.memory(available=GIB * 2 // 3)
    killed = itertools.count(2)

    def kill() -> None:
        full.guest("starving", 4 * GIB, used=GIB - 1024, size=GIB, stuck=True, killed=next(killed))

    full.shows("MomProgramsKilled", guest="starving", again=kill)
    alerts.come("full", "MomProgramsKilled")  # which is reported only for a while
    full.shows("MomGuestsFarFromTargets", guest="starving")

    (broken.root / "hot").touch()
    broken.pressure(80)
    alerts.come("broken", "MomSaysWarning", "MomHostWaitsForMemory")
    broken.shows("MomSaysWarning", "MomHostWaitsForMemory")
    (broken.root / "hot").unlink()
    broken.pressure(0)
    state, kept = broken.folder / "state", broken.folder / "kept"
    state.rename(kept)
    state.touch()  # in place of the folder
    broken.guest("late", 4 * GIB, size=GIB)
    (broken.root / "broken").touch()
    alerts.come("broken", "MomSaysError", "MomPluginSick")
    broken.shows("MomSaysError", "MomPluginSick")
    state.unlink()
    kept.rename(state)
    (broken.root / "broken").unlink()
    (broken.root / "guests").rename(broken.root / "away")
    alerts.come("broken", "MomGuestsUnknown")
    broken.shows("MomGuestsUnknown")
    (broken.root / "away").rename(broken.root / "guests")
    (broken.root / "slow").touch()
    alerts.come("broken", "MomCyclesStopped", "MomSkipsCycles")
    broken.shows("MomCyclesStopped", "MomSkipsCycles")
    (broken.root / "slow").unlink()
    alerts.go("broken")
    broken.end(signal.SIGKILL)
    alerts.come("broken", "MomDown")
    broken.shows("MomDown")
    broken.start()

    alerts.come("full", "MomGuestsDoNotGive", "MomGuestsFarFromTargets")
    full.memory(available=4 * GIB)
    (full.root / "evicting").unlink()
    (full.root / "guests/sold-2.json").unlink()
    for name in ("stubborn", "refusing", "starving"):
        full.guest(name, 4 * GIB)
    alerts.go("full")
    alerts.go("broken")

    shipped = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    assert {name for _, name in alerts.seen} == shipped
    late = {("full", name) for name in ("MomDown", "MomCyclesStopped", "MomSkipsCycles")}  # true on a busy machine, too
    assert len(alerts.seen.keys() - late) == len(shipped), f"each on the host whose trouble it is: {sorted(alerts.seen)}"
    assert not any("<" in summary for summary in alerts.seen.values()), alerts.seen
