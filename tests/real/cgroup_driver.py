"""Driver that runs in a guest with its own cgroups v2: plugins on real control groups, with processes in place of guests.

It runs as root, and as user mom with mom-helper in its units. `cgroup_image` packs it with its imports, which `imports` prints, and
installs its plugins as a distribution. Each result is JSON in a line after `FACT`.
"""

import errno
import importlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from grouped_processes import (
    HYPERVISOR,
    MIB,
    ROOT,
    SLOW_SECONDS,
    Processes,
    end,
    entity,
    fact,
    group_of,
    held,
    log_of,
    open_groups,
    stands,
    start,
    until,
)

from mom_core import Decision, Engine, Outcome, PluginContext, PluginSettings, Report, Value, hookimpl, load_config
from mom_daemon.cli.frame import run
from mom_devkit import config_of
from mom_devkit.without_root import another_user
from mom_kvm import Helper, ProcessStat, write_group_files
from mom_plugins_host.cgroup import CgroupPlugin
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimWorker

COLD_MIB, WARM_MIB = 96, 8
WEB_MIB, HIGH_MIB = 80, 40

HIGH, LOW, MIN, SWAP_MAX = "cgroup_memory_high", "cgroup_memory_low", "cgroup_memory_min", "cgroup_swap_max"

WANTED: list[Decision] = []


class Decider:
    """Evaluator that decides the values of a test."""

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass

    @hookimpl
    def mom_evaluate(self) -> Sequence[Decision]:
        return tuple(WANTED)


class Mom:
    """Engine that runs single cycles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        """Start a new engine."""
        settings = {"cgroup": {"overhead": "4MiB"}}
        plugins = {"decider": Decider, "cgroup": CgroupPlugin, "processes": Processes}
        self.engine = Engine(config_of(self.folder, plugins, settings, interval=1.0, stop_timeout=SLOW_SECONDS))
        self.engine.open()

    def cycle(self, *wanted: tuple[str, str, Value]) -> Report:
        WANTED[:] = [Decision(entity(name), control, value, "a test") for name, control, value in wanted]
        return self.engine.cycle()


def begin(name: str, cold: int, warm: int, user: str = "root") -> subprocess.Popen[bytes]:
    """Start a process of that user that holds memory, in a control group like libvirt's."""
    command = ["/bin/workload", str(cold), str(warm), "0", "0"]
    process = start(name, command, cold + warm, {"mem_usable": cold * MIB, "stats_age": 0.5}, user)
    until(lambda: "BEAT" in log_of(name).read_text(), 600)
    return process


def prepare() -> None:
    open_groups()
    subprocess.run(["mkswap", "/dev/ram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", "/dev/ram0"], check=True)


def rules() -> list[str]:
    """Return differences between the kernel and the simulated control groups."""
    group = ROOT / "machine.slice" / "rules"
    group.mkdir()
    wrong = []
    for name, text, error, after in json.loads(Path(__file__).with_name("cgroup_rules.json").read_text()):
        found = ""
        try:
            (group / name).write_text(text)
        except OSError as refused:
            found = errno.errorcode[refused.errno or 0]
        stands = (group / name).read_text()
        if (found, stands) != (error, after):
            wrong.append(f"{name} < {text}: {found} {stands!r}")
    group.rmdir()
    return wrong


def statuses(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {one.decision.control: f"{one.status} {one.error}".strip() for one in outcomes}


KNOBS = ("memory.high", "memory.low", "memory.min", "memory.swap.max")
WEIGHT = "cpu.weight"
"""File that no plugin of mom sets. root has declared it for another plugin."""

CONFIG = Path("/etc/mom/mom.yaml")
"""root's configuration, written as JSON."""


def limits(mom: Mom) -> None:
    wanted: Sequence[tuple[str, Value]] = ((HIGH, 120 * MIB), (LOW, 20 * MIB), (MIN, 8 * MIB), (SWAP_MAX, 64 * MIB))
    mom.cycle()
    report = mom.cycle(*[("cold", control, value) for control, value in wanted])
    fact("limits", statuses(report.outcomes))
    fact("limits stand", stands("cold", *KNOBS))
    fact("fields", dict(next(iter(mom.cycle().snapshot.guests.values())).fields))
    mom.engine.close(put_back=False)  # as after a crash
    mom.open()
    fact("put back", statuses(mom.engine.close()))
    fact("limits stand no more", stands("cold", *KNOBS))
    mom.open()
    mom.cycle()
    low = mom.cycle(("cold", HIGH, 10 * MIB))
    fact("too low", [revision.reason for revision in low.revisions])
    subprocess.run(["mount", "-o", "remount,ro", str(ROOT)], check=True)
    fact("read-only", statuses(mom.cycle(("cold", LOW, 4 * MIB)).outcomes))
    subprocess.run(["mount", "-o", "remount,rw", str(ROOT)], check=True)


def gone(mom: Mom, process: subprocess.Popen[bytes]) -> None:
    mom.cycle(("cold", SWAP_MAX, 4 * MIB))
    end("cold", process)
    report = mom.cycle(("cold", SWAP_MAX, 8 * MIB))
    fact("gone in a cycle", [[problem.message for problem in report.problems], [one.reason for one in report.revisions]])
    fact("gone at the end", statuses([one for one in mom.engine.close() if one.decision.control == SWAP_MAX]))


# --- as user mom, with mom-helper under systemd -----------------------------------------------------------------------------------------


def status_of(pid: int | str, *names: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words for name, _, words in (line.partition(":\t") for line in lines) if name in names}


def refusal(work: Callable[[], object]) -> str:
    """Return the kernel's error for an action; empty if it works."""
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout.strip()


def alone(pid: int) -> None:
    """Report the actions that user mom may not do."""
    high, process = group_of("web") / "memory.high", Path(f"/proc/{pid}")
    tried = {"limit": lambda: os.close(os.open(high, os.O_WRONLY)), "process": lambda: os.close(os.open(process / "smaps", os.O_RDONLY))}
    fact("alone", {what: refusal(work) for what, work in tried.items()})


def helped_limits(folder: Path) -> None:
    """Set limits, crash, and restore them with the next mom."""
    mom = Mom(folder)
    wanted: Sequence[tuple[str, Value]] = ((HIGH, 100 * MIB), (LOW, 20 * MIB), (MIN, 8 * MIB), (SWAP_MAX, 64 * MIB))
    mom.cycle()
    fact("helped", statuses(mom.cycle(*[("web", control, value) for control, value in wanted]).outcomes))
    fact("helped stand", stands("web", *KNOBS))
    mom.engine.close(put_back=False)  # as after a crash
    mom.open()
    fact("helped back", statuses(mom.engine.close()))
    fact("helped stand no more", stands("web", *KNOBS))
    mom.open()
    mom.cycle()
    mom.cycle(("web", HIGH, 100 * MIB), ("web", LOW, 20 * MIB))
    mom.engine.close(put_back=False)  # as after another crash


def restored(folder: Path, helper: Helper) -> None:
    """Run `mom restore` as root for the remaining changes."""
    plugins: Mapping[str, object] = {"decider": {}, "cgroup": {}, "processes": {}}
    CONFIG.write_text(
        json.dumps({"mode": "enforce", "plugins": plugins, "state_directory": f"{folder}/state", "run_directory": f"{folder}/run"})
    )
    said = Path("/tmp/restored")
    if (child := os.fork()) == 0:  # a child needs no imports, which take 15 s here
        helper.close()
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o644), 1)
        code = run(["restore", "-c", str(CONFIG), "--json"])
        os._exit(code if os.getuid() == pwd.getpwnam("mom").pw_uid else 70)
    _, status = os.waitpid(child, 0)
    rows = json.loads(said.read_text() or "[]")
    fact("restored", [os.waitstatus_to_exitcode(status), {one["control"]: one["status"] for one in rows}])
    fact("restored stand", stands("web", *KNOBS))


def weighed(pid: int) -> None:
    """Write a file that root has declared for another plugin."""
    file = str(group_of("web") / WEIGHT)
    weighs, too_heavy = write_group_files([Helper.GroupWrite(file, "50", pid), Helper.GroupWrite(file, "5000", pid)])
    fact("weighs", stands("web", WEIGHT) if weighs is None else str(weighs))
    fact("too heavy", str(too_heavy))


def taken(way: str, kib: int, pid: int, started: int) -> list[object]:
    """Return the memory that the reclaim worker has moved to swap (KiB), and why it stopped."""
    taker, request = ReclaimWorker(), ReclaimRequest("web", way, kib, pid, started)
    taker.send([request], 10.0, 10.0)
    answers: list[ReclaimRequest] = []

    def all_answered() -> bool:
        answers.extend(taker.answers())
        return not taker.busy

    until(all_answered, 60)
    taker.close()
    return [sum(one.went for one in answers[-1:]), "".join(one.why for one in answers)]


def limit(helper: Helper, pid: int) -> None:
    for failure in filter(None, helper.set_groups([Helper.GroupWrite(str(group_of("web") / "memory.high"), str(1 << 30), pid)])):
        raise failure


def helped(folder: Path) -> None:
    """Run all actions of user mom that need the helper."""
    web = begin("web", WEB_MIB, WARM_MIB, "libvirt-qemu")
    systemctl("start", "mom-helper.socket", "mom-helper")
    stat = ProcessStat.of(f"/proc/{web.pid}")
    assert stat is not None
    stranger = subprocess.Popen(["sleep", "600"], user="libvirt-qemu", group="libvirt-qemu", extra_groups=[])
    os.chown(folder, pwd.getpwnam("mom").pw_uid, -1)
    with another_user("mom"):
        fact("mom's power", status_of("self", "CapEff", "Uid"))
        alone(web.pid)
        helper = Helper.reached()
        assert helper is not None
        until(lambda: not refusal(helper.declared), 60)
        helped_limits(folder)
    restored(folder, helper)
    with another_user("mom"):
        weighed(web.pid)
        os.close(ProcessStat.open_file(f"/proc/{web.pid}", "smaps"))
        fact("process file", b"Rss:" in ProcessStat.read_file(f"/proc/{web.pid}", "smaps"))
        fact("others", [refusal(partial(limit, helper, pid)) for pid in (os.getpid(), stranger.pid)])
        before = held("web")
        fact("taken of its group", taken("v2", 16 * MIB, web.pid, stat.started))
        fact("taken of its process", taken("process", 16 * MIB, web.pid, stat.started))
        fact("went", (before - held("web")) >> 20)
        failures = write_group_files([Helper.GroupWrite(str(group_of("web") / "memory.high"), str(HIGH_MIB << 20), web.pid)])
        assert failures == [None], failures
        fact("pressed", until(lambda: held("web") <= (HIGH_MIB + 2) << 20, SLOW_SECONDS))
    fact(
        "helper's power",
        status_of(systemctl("show", "--property=MainPID", "--value", "mom-helper"), "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"),
    )
    systemctl("stop", "mom-helper.socket", "mom-helper")
    fact("put back by the helper", stands("web", *KNOBS, WEIGHT))
    stranger.kill()


def main() -> None:
    prepare()
    fact("kernel", os.uname().release)
    fact("rules", rules())
    cold = begin("cold", COLD_MIB, WARM_MIB)
    with tempfile.TemporaryDirectory() as folder:
        mom = Mom(Path(folder))
        limits(mom)
        gone(mom, cold)
    with tempfile.TemporaryDirectory() as folder:
        HYPERVISOR.known.clear()
        helped(Path(folder))
    fact("done", True)


def imports() -> None:
    """Print the files of all modules that the driver, a cycle, `mom run` and `mom restore` import."""
    folder = Path(tempfile.mkdtemp())
    Mom(folder).engine.close()
    (folder / "mom.yaml").write_text("mode: enforce\nplugins: {cgroup: {}}")
    load_config(folder / "mom.yaml")
    for name in ("mom_helper.__main__", "mom_daemon.restore", "mom_daemon.run", "mom_daemon.cli.frame"):
        importlib.import_module(name)
    shutil.rmtree(folder)
    for module in list(sys.modules.values()):
        for file in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
            if file and Path(file).exists():
                sys.stdout.write(f"{file}\n")
