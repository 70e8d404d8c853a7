"""Checks that run the plugin."""

from __future__ import annotations

import json
import locale
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretBytes, SecretStr

from mom_core import ControlSpec, Decision, Entity, Finding, Guest, GuestGone, Hypervisor, HypervisorError, MomError, Report, Scope
from mom_core.plugins.bounded import describe, located
from mom_core.plugins.registry import explainers_of
from mom_core.plugins.secrets import secrets_in
from mom_daemon import Explainers
from mom_daemon.config.draft import suggested_by
from mom_daemon.look.status import status_parts
from mom_daemon.plugins.declared import findings_in
from mom_daemon.status_file import status_of
from mom_devkit.conformance.subject import Bench, ExaminedPlugin, Life, alive, configured
from mom_devkit.hypervisors import FakeGuest, FakeHypervisor
from mom_kvm import Destination

CYCLES: Final = 3
"""Cycles per check: enough for a plugin to compute rates, and to show a failure of `mom_report`."""

ENGINE_SAYS: Final = re.compile(r"mom_\w+|the plugin collects|its (host|guest) field")
"""Matches the beginning of a problem that the engine, not the plugin, reports."""


def _troubles(subject: ExaminedPlugin, report: Report, when: str = "") -> Iterator[Finding]:
    own = next(plugin for plugin in report.plugins if plugin.name == subject.name)
    if hasattr(subject.plugin_class, "mom_hypervisor") and own.last_error.startswith(HypervisorError.__name__):
        yield subject.remark(f"its hypervisor cannot be reached here: {own.last_error}", "pass settings of a reachable hypervisor")
        return
    for problem in report.problems:
        if problem.source.name == subject.name and ENGINE_SAYS.match(problem.message):
            yield subject.fault(when + problem.message, "return only declared fields; omit unknown values, or set them to None")
    if own.failures:
        yield subject.fault(f"{when}{own.failures} of {own.calls} calls failed: {own.last_error}", "raise only on real errors")


def results(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Each hook returns values of the declared types. No call fails."""
    with alive(subject) as life:
        for _ in range(CYCLES):
            report = life.cycle()
        yield from _troubles(subject, report)
        for decision in report.decisions:
            if decision.source.name == subject.name and not decision.reason:
                yield subject.remark(f"a decision on {decision.control} has no reason", "set `reason`: operators need it")
        yield from _findings(subject, life)
        yield from _shown_by_verbs(subject, life, report)


def _findings(subject: ExaminedPlugin, life: Life) -> Iterator[Finding]:
    plugin = life.subject
    calls = [("mom_check", {}), *(("mom_doctor", {"hypervisor": each}) for each in (life.engine.hypervisor, None))]
    for hook, arguments in [(hook, arguments) for hook, arguments in calls if hook in plugin.hooks]:
        try:
            findings = findings_in(hook, plugin.worker.call(hook, plugin.work(hook, **arguments)))
        except BaseException as error:  # noqa: BLE001  # any error is a finding
            yield subject.fault(f"{hook} failed: {located(error)}", "report faults of the host or the configuration as a Finding")
        else:
            for finding in findings:
                if finding.message.startswith(f"{hook} returned "):
                    yield subject.fault(finding.message, "yield Finding objects")


def _shown_by_verbs(subject: ExaminedPlugin, life: Life, report: Report) -> Iterator[Finding]:
    hooks, loaded = life.subject.hooks, life.subject.configured.loaded
    try:
        if "mom_status" in hooks:
            status_parts(loaded, report)
        if "mom_suggest" in hooks:
            suggested_by(loaded, subject.root)
    except MomError as error:
        yield subject.fault(error.message, "mom_status must omit unknown values; mom_suggest must return None for an unsuitable host")
    explainers = Explainers(explainers_of([loaded]))
    unknown = {text for guest in report.snapshot.guests.values() for text in explainers.explain(report, guest)["unknown"]}
    for text in sorted(text for text in unknown if text.startswith(f"what the {subject.name} plugin knows (")):
        yield subject.fault(f"mom_explainer: `mom explain` does not know {text}", "list unknown values in `unknown`")


def changing_guests(subject: ExaminedPlugin) -> Iterator[Finding]:
    """On a host without files or guests, and when guests end, start or restart during a cycle, the plugin works."""
    bench = subject.new_bench()
    hypervisor = bench.hypervisor
    if not isinstance(hypervisor, FakeHypervisor):
        return
    with alive(subject, Bench(subject.new_folder("nothing"), FakeHypervisor([]), subject.new_folder("life"))) as life:
        life.cycle()
    ghost = FakeGuest("ghost")
    with alive(subject, bench) as life:
        life.cycle()
        ended = hypervisor.known.popitem()[1] if hypervisor.known else None
        hypervisor.known["new"] = FakeGuest("new")
        hypervisor.ended.append(ghost)
        decisions = [
            Decision(Entity(Scope.GUEST, ghost.id, ghost.name), control.name, int(control.minimum or 1), "a check of errors")
            for control in subject.declared_as(ControlSpec)
            if control.scope is Scope.GUEST
        ]
        yield from _troubles(subject, life.cycle(*decisions), "with a guest that ended within the cycle, ")
        if ended is not None:
            ended.incarnation = "2"
            hypervisor.known[ended.name] = ended
        yield from _troubles(subject, life.cycle(), "with a restarted guest, ")


def observing(subject: ExaminedPlugin) -> Iterator[Finding]:
    """In observe mode, the plugin changes neither the host nor guests."""
    bench = subject.new_bench()
    before, guests = _content(bench.root), _guests_of(bench.hypervisor)
    with alive(subject, bench, mode="observe") as life:
        for _ in range(2):
            life.cycle()
    after = _content(bench.root)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        yield subject.fault(f"in observe mode it wrote to {', '.join(sorted(changed)[:5])}", "make changes only in mom_write")
    if _guests_of(bench.hypervisor) != guests:
        yield subject.fault("in observe mode it changed guests", "make changes only in mom_write")


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _guests_of(hypervisor: object) -> str:
    return repr(hypervisor.known) if isinstance(hypervisor, FakeHypervisor) else ""


def reload(subject: ExaminedPlugin) -> Iterator[Finding]:
    """When mom reloads, new settings take effect. If the settings are equal, the plugin is not restarted."""
    bench = subject.new_bench()
    with alive(subject, bench) as life:
        life.cycle()
        instances = [life.subject.instance]
        for _ in range(2):
            config = configured(subject, bench, life.decisions, settings={**subject.settings, "deadline": "7s"})
            try:
                life.engine.reload(config)
            except MomError as error:
                cure = "mom sets up the new plugin before it tears down the old one: they must share nothing"
                yield subject.fault(f"a reload with other settings fails: {error.message}", cure)
                return
            instances.append(life.subject.instance)
        if instances[0] is instances[1]:
            yield subject.fault("a reload with other settings kept the old settings", "compare settings by value")
        if instances[1] is not instances[2]:
            yield subject.fault("a reload with equal settings restarts it", "compare settings by value")
        life.cycle()
        yield from _troubles(subject, life.cycle(), "after a reload, ")


# --- a hypervisor --------------------------------------------------------------------------------------------------------------

GHOST: Final = Entity(Scope.GUEST, "5e5e5e5e-0000-4000-8000-00000000dead", "conformance-ghost")

READINGS: Final = ("balloon_sizes", "cpu_tunes", "io_tunes", "net_tunes", "agent_channels", "cpu_pins", "node_tunes", "standings")

CHANGES: Final[Sequence[tuple[str, tuple[object, ...]]]] = (
    ("set_balloon", (1 << 20,)),
    ("set_cpu_tune", (None, None, 1024)),
    ("set_io_tune", ("vda", {"total_iops_sec": 0})),
    ("set_net_tune", ("vnet0", {}, {})),
    ("set_cpu_pin", (0, {0})),
    ("set_node_tune", ({0},)),
    ("migrate", (Destination.parse("qemu+tls://conformance.invalid/system"), 1.0)),
    ("pause", ()),
    ("resume", ()),
    ("save", (1.0,)),
    ("shut_down", ()),
    ("start", (1.0,)),
)


def hypervisor(subject: ExaminedPlugin) -> Iterator[Finding]:
    """In the plugin's hypervisor, guests are distinct, and an unknown guest raises `GuestGone`."""
    if not hasattr(subject.plugin_class, "mom_hypervisor"):
        return
    with alive(subject) as life:
        owner, tested = life.engine.plugins.hypervisor_owner, life.engine.hypervisor
        if owner is None or owner.name != subject.name:
            return
        try:
            guests = list(tested.guests())
        except HypervisorError as error:
            yield subject.remark(
                f"its hypervisor cannot be reached here, so it was not checked: {error}", "pass settings of a reachable hypervisor"
            )
            return
        yield from _listed_guests(subject, guests)
        yield from _readings_of_ghost(subject, tested)
        yield from _changes_of_ghost(subject, tested)


def _listed_guests(subject: ExaminedPlugin, guests: Sequence[Guest]) -> Iterator[Finding]:
    if not guests:
        yield subject.remark(
            "its hypervisor has no guests here, so its list of guests was not checked", "pass settings of a hypervisor with guests"
        )
    if len({guest.id for guest in guests}) < len(guests):
        yield subject.fault("two guests have the same id", "use the UUID as the id")
    for guest in guests:
        if not (guest.properties.get("name") and guest.properties.get("uuid")):
            yield subject.fault(f"the guest {guest.entity} has no property name or uuid", "`properties` must contain both")
        if not guest.incarnation:
            yield subject.remark(
                f"the guest {guest.entity} has no incarnation", "without it, mom cannot tell a restarted guest from the old one"
            )


def _readings_of_ghost(subject: ExaminedPlugin, tested: Hypervisor) -> Iterator[Finding]:
    for name in [name for name in READINGS if hasattr(tested, name)]:
        try:
            answer = getattr(tested, name)([GHOST])
        except Exception as error:  # noqa: BLE001  # any error is a finding
            message = f"{name} of a guest that is gone raises {describe(error)}"
            yield subject.fault(message, "omit the guest, and return the others")
            continue
        if answer:
            yield subject.fault(f"{name} returns a guest that does not exist", "omit unknown guests")


def _changes_of_ghost(subject: ExaminedPlugin, tested: Hypervisor) -> Iterator[Finding]:
    for name, arguments in [(name, arguments) for name, arguments in CHANGES if hasattr(tested, name)]:
        try:
            getattr(tested, name)(GHOST, *arguments)
        except GuestGone:
            continue
        except HypervisorError as error:
            yield subject.remark(f"{name} of a guest that is gone raises {type(error).__name__}", "raise GuestGone")
        except Exception as error:  # noqa: BLE001  # any error is a finding
            yield subject.fault(f"{name} of a guest that is gone raises {describe(error)}", "raise GuestGone")
        else:
            yield subject.fault(f"{name} of a guest that is gone has no effect and raises nothing", "raise GuestGone")


# --- leaks --------------------------------------------------------------------------------------------------------------

END_SECONDS: Final = 2.0
"""Time within which the plugin's threads must end after mom_teardown."""

SECRET: Final = "conformance-3b1f0c9e"  # noqa: S105  # planted to find leaks
"""Secret that the check puts into secret settings without a value."""


def traces(subject: ExaminedPlugin) -> Iterator[Finding]:
    """No thread or open file is left after teardown. The plugin changes no process state, and shows no secret from its settings."""
    yield from _secrets(subject)  # files opened once per process are no leak
    threads, files = set(threading.enumerate()), _open_files()
    with alive(subject) as life:
        for _ in range(CYCLES):
            life.cycle()
        worker = life.subject.worker
    if worker.hung_in:
        yield subject.fault(f"it does not end in time: {worker.why_not('mom_teardown')}", "limit each wait in mom_teardown")
        threads |= {thread for thread in threading.enumerate() if thread.name == f"mom-{subject.name}"}  # mom's own thread for the plugin
    until = time.monotonic() + END_SECONDS
    while (left := set(threading.enumerate()) - threads) and time.monotonic() < until:
        next(iter(left)).join(0.05)
    if left:
        yield subject.fault(
            f"it leaves threads running: {', '.join(sorted(thread.name for thread in left))}", "end and join them in mom_teardown"
        )
    more = sorted(target for descriptor, target in _open_files().items() if files.get(descriptor) != target)
    if more:
        yield subject.fault(f"it leaves open: {', '.join(more[:5])}", "close in mom_teardown what mom_setup opened")


def _secrets(subject: ExaminedPlugin) -> Iterator[Finding]:
    secret_types = (SecretStr, SecretBytes, SecretStr | None)
    planted = {name: SECRET for name, field in subject.settings_class.model_fields.items() if field.annotation in secret_types}
    settings = {**planted, **subject.settings}
    model = subject.read_settings(settings)
    logged: list[str] = []
    handler, root = logging.Handler(), logging.getLogger()
    handler.emit = lambda record: logged.append(f"{record.getMessage()} {record.exc_info}")  # type: ignore[method-assign]  # collects all records
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with alive(subject, settings=settings) as life:
            life.cycle()
            report = life.cycle()
            shown = {
                "the status": json.dumps(status_of(life.engine, report), default=str),
                "a report": repr(report),
                "its settings as text": f"{model!r} {model!s} {model.model_dump_json()}",
            }
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    shown["its log"] = "\n".join(logged)
    for where, text in shown.items():
        if any(secret in text for secret in secrets_in(model)):
            yield subject.fault(f"a secret from its settings is in {where}", "call get_secret_value() only to use the secret")


def _open_files() -> dict[str, str]:
    paths: dict[str, str] = {}
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208  # only names are needed
        try:
            paths[descriptor] = str(Path("/proc/self/fd", descriptor).readlink())
        except OSError:
            continue  # the descriptor of the folder itself
    return paths


def process_state() -> dict[str, object]:
    """Return the process state that no plugin may change."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # os.umask() would change it
    return {
        **{f"the environment ({name})": value for name, value in os.environ.items()},
        "the locale": locale.setlocale(locale.LC_ALL),
        "the working directory": str(Path.cwd()),
        "the umask": re.findall(r"^Umask:.*", status, re.MULTILINE),
    }


def changes_since(before: dict[str, object]) -> list[str]:
    """Return the changed parts of the process's state."""
    now = process_state()
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]
