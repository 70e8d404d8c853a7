"""Checks of a plugin at work: what its hooks return, guests that come and go, observing, reload, a hypervisor's answers, what is left."""

from __future__ import annotations

import json
import locale
import logging
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretBytes, SecretStr

from mom_core import ControlSpec, Decision, Entity, Finding, GuestGone, HypervisorError, MomError, Report, Scope, Severity
from mom_core.plugins.bounded import describe, place_of
from mom_core.plugins.registry import explainers_of
from mom_core.plugins.secrets import secrets_in
from mom_daemon import Explainers, StatusPart, status_of
from mom_daemon.config.draft import suggested_by
from mom_daemon.look.status import status_parts
from mom_daemon.plugins.declared import sorted_out
from mom_devkit.conformance.subject import Bench, ExaminedPlugin, Life, alive, configured
from mom_devkit.hypervisors import FakeGuest, FakeHypervisor
from mom_kvm import Destination

CYCLES: Final = 3
"""Enough for a plugin that computes rates to have one, and for a failure of `mom_report` to show."""

ENGINE_SAYS: Final = re.compile(r"mom_\w+|it collects|its (host|guest) field")
"""How the engine's problems with a plugin's answers begin; all others are what the plugin itself reports."""


def _troubles(subject: ExaminedPlugin, report: Report, when: str = "") -> Iterator[Finding]:
    """The engine's complaints about the plugin's answers in a cycle, and of its calls since it was set up."""
    own = next(plugin for plugin in report.plugins if plugin.name == subject.name)
    if hasattr(subject.plugin_class, "mom_hypervisor") and own.last_error.startswith(HypervisorError.__name__):
        yield subject.remark(f"its hypervisor cannot be reached here: {own.last_error}", "give settings that reach one")
        return
    for problem in report.problems:
        if problem.source.name == subject.name and ENGINE_SAYS.match(problem.message):
            yield subject.fault(when + problem.message, "return what was declared; leave out, or set to None, what is unknown")
    if own.failures:
        yield subject.fault(
            f"{when}{own.failures} of {own.calls} calls failed: {own.last_error}", "a hook raises only when something is really wrong"
        )
    deadline = subject.read_settings().deadline
    for hook, seconds in own.durations.items():
        if seconds > deadline / 2:
            yield subject.remark(f"{hook} took {seconds:.2f} s of a deadline of {deadline:g} s", "recipes: a slow source")


def results(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Its hooks return values of the declared types, nothing fails, and every call is done well within the deadline."""
    with alive(subject) as life:
        for _ in range(CYCLES):
            report = life.cycle()
        yield from _troubles(subject, report)
        for decision in report.decisions:
            if decision.source.name == subject.name and not decision.reason:
                yield subject.remark(f"a decision on {decision.control} has no reason", "operators ask why: give `reason`")
        yield from _findings(subject, life)
        yield from _what_verbs_show(subject, life, report)


def located(error: BaseException) -> str:
    """An exception, with the file and line of the plugin where it came up."""
    place = place_of(error)
    return describe(error) + (f" (at {place})" if place else "")


def _findings(subject: ExaminedPlugin, life: Life) -> Iterator[Finding]:
    """What `mom config check` and `mom doctor` ask for."""
    plugin = life.subject
    asked = [("mom_check", {}), *(("mom_doctor", {"hypervisor": one}) for one in (life.engine.hypervisor, None))]
    for hook, arguments in [(hook, arguments) for hook, arguments in asked if hook in plugin.hooks]:
        try:
            findings, wrong = sorted_out(hook, plugin.worker.call(hook, plugin.work(hook, **arguments)))
        except BaseException as error:  # noqa: BLE001  # whatever the plugin raises is the finding
            yield subject.fault(f"{hook} failed: {located(error)}", "what is wrong with the host or the configuration is a Finding")
        else:
            if any(not _is_sound(finding) for finding in findings):
                wrong = f"{hook} gave a Finding whose parts are not a Severity and texts"
            if wrong:
                yield subject.fault(wrong, "yield Finding objects")


def _is_sound(finding: Finding) -> bool:
    parts: tuple[object, ...] = (finding.subject, finding.message, finding.cure)
    return isinstance(finding.severity, Severity) and all(isinstance(part, str) for part in parts)


def _what_verbs_show(subject: ExaminedPlugin, life: Life, report: Report) -> Iterator[Finding]:
    """What `mom status`, `mom explain` and `mom config init` ask for, as they do it."""
    hooks, loaded = life.subject.hooks, life.subject.configured.loaded
    try:
        if "mom_status" in hooks:
            yield from _of_status(subject, status_parts(loaded, report))
        if "mom_suggest" in hooks:
            suggested_by(loaded, subject.root)
    except MomError as error:
        yield subject.fault(error.message, "what is unknown has no part; a host that it does not fit has no suggestion")
    explainers = Explainers(explainers_of([loaded]))
    explainers.take(report)
    said = {what for guest in report.snapshot.guests.values() for what in explainers.explain(report, guest)["unknown"]}
    for what in sorted(what for what in said if what.startswith(f"what the plugin {subject.name} knows (")):
        yield subject.fault(f"mom_explainer: `mom explain` does not know {what}", "what is unknown is named in `unknown`")


def _of_status(subject: ExaminedPlugin, parts: Sequence[StatusPart]) -> Iterator[Finding]:
    for part in parts:
        place, *texts = (part.place, part.heading, part.text)
        if not isinstance(place, int) or not all(isinstance(text, str) for text in texts):
            what = "mom_status gave a StatusPart whose heading and text are no texts, or whose place is no integer"
            yield subject.fault(what, "place, heading, text")


def changing_guests(subject: ExaminedPlugin) -> Iterator[Finding]:
    """A host without guests or anything else that it looks for, guests that end within a cycle, and new ones are no error."""
    bench = subject.new_bench()
    hypervisor = bench.hypervisor
    if not isinstance(hypervisor, FakeHypervisor):
        return
    try:
        with alive(subject, Bench(subject.new_folder("nothing"), FakeHypervisor([]), subject.new_folder("life"))) as life:
            life.cycle()
    except MomError as error:
        cure = "raise in the calls that need it: what mom_setup raises keeps the daemon from starting"
        yield subject.remark(f"it keeps mom from starting on a host without what it looks for: {error.message}", cure)
    ghost = FakeGuest("ghost")
    with alive(subject, bench) as life:
        life.cycle()
        ended = hypervisor.known.popitem()[1] if hypervisor.known else None
        hypervisor.known["new"] = FakeGuest("new")
        hypervisor.ended.append(ghost)
        asked = [
            Decision(Entity(Scope.GUEST, ghost.id, ghost.name), one.name, int(one.minimum or 1), "a check of errors")
            for one in subject.declared_as(ControlSpec)
            if one.scope is Scope.GUEST
        ]
        yield from _troubles(subject, life.cycle(*asked), "with a guest that ended within the cycle, ")
        if ended is not None:
            ended.incarnation = "2"
            hypervisor.known[ended.name] = ended
        yield from _troubles(subject, life.cycle(), "with a guest that was started anew, ")


def observing(subject: ExaminedPlugin) -> Iterator[Finding]:
    """While mom only observes, nothing on the host or its guests changes."""
    bench = subject.new_bench()
    before, guests = _content(bench.root), _guests_of(bench.hypervisor)
    with alive(subject, bench, mode="observe") as life:
        for _ in range(2):
            life.cycle()
    after = _content(bench.root)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        yield subject.fault(f"in observe mode it wrote to {', '.join(sorted(changed)[:5])}", "change things in mom_write only")
    if _guests_of(bench.hypervisor) != guests:
        yield subject.fault("in observe mode it changed guests", "change things in mom_write only")


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _guests_of(hypervisor: object) -> str:
    return repr(hypervisor.known) if isinstance(hypervisor, FakeHypervisor) else ""


def reload(subject: ExaminedPlugin) -> Iterator[Finding]:
    """It takes new settings while mom runs, and goes on with equal ones."""
    bench = subject.new_bench()
    with alive(subject, bench) as life:
        life.cycle()
        instances = [life.subject.instance]
        for _ in range(2):
            config = configured(subject, bench, life.wanted, settings={**subject.settings, "deadline": "7s"})
            try:
                life.engine.reload(config)
            except MomError as error:
                cure = "the new one is set up before the old one is torn down: share nothing"
                yield subject.fault(f"a reload with other settings fails: {error.message}", cure)
                return
            instances.append(life.subject.instance)
        if instances[0] is instances[1]:
            yield subject.fault("a reload with other settings kept the old ones", "compare settings by value")
        if instances[1] is not instances[2]:
            yield subject.fault("a reload with equal settings begins it anew", "compare settings by value")
        life.cycle()
        yield from _troubles(subject, life.cycle(), "after a reload, ")


# --- a hypervisor --------------------------------------------------------------------------------------------------------------

GHOST: Final = Entity(Scope.GUEST, "5e5e5e5e-0000-4000-8000-00000000dead", "conformance-ghost")
"""A guest that no hypervisor has."""

READINGS: Final = ("balloon_sizes", "cpu_tunes", "io_tunes", "net_tunes", "agent_channels", "cpu_pins", "node_tunes", "standings")
"""Calls by which capabilities read of all guests at once."""

CHANGES: Final[Sequence[tuple[str, tuple[object, ...]]]] = (
    ("set_balloon", (1 << 20,)),
    ("set_cpu_tune", (None, None, 1024)),
    ("set_io_tune", ("vda", {"total_iops_sec": 0})),
    ("set_net_tune", ("vnet0", {}, {})),
    ("set_cpu_pin", (0, {0})),
    ("set_node_tune", ({0},)),
    ("migrate", (Destination("qemu", "/system", "tls", host="conformance.invalid"), 1.0)),
    ("pause", ()),
    ("resume", ()),
    ("save", (1.0,)),
    ("shut_down", ()),
    ("start", (1.0,)),
)
"""Calls by which capabilities change a guest, with the arguments besides the guest."""


def hypervisor(subject: ExaminedPlugin) -> Iterator[Finding]:
    """A hypervisor lists guests that are told apart, and says `GuestGone` of one that it does not have."""
    if not hasattr(subject.plugin_class, "mom_hypervisor"):
        return
    with alive(subject) as life:
        owner, one = life.engine.plugins.hypervisor_owner, life.engine.hypervisor
        if owner is None or owner.name != subject.name:
            return
        try:
            guests = list(one.guests())
        except HypervisorError as error:
            yield subject.remark(f"its hypervisor cannot be reached here, so it was not looked at: {error}", "give settings that reach one")
            return
        if not guests:
            yield subject.remark("its hypervisor has no guests here, so how it lists them was not checked", "give settings for some")
        if len({guest.id for guest in guests}) < len(guests):
            yield subject.fault("two guests have one id", "take the UUID")
        for guest in guests:
            if not (guest.properties.get("name") and guest.properties.get("uuid")):
                yield subject.fault(f"the guest {guest.entity} has no property name or uuid", "`properties` hold at least these")
            if not guest.incarnation:
                yield subject.remark(f"the guest {guest.entity} has no incarnation", "mom takes one that was started anew for the old one")
        for name in [name for name in READINGS if hasattr(one, name)]:
            try:
                answer = getattr(one, name)([GHOST])
            except Exception as error:  # noqa: BLE001  # whatever the hypervisor raises is the finding
                yield subject.fault(f"{name} of a guest that is gone raises {describe(error)}", "leave it out: the others count")
                continue
            if answer:
                yield subject.fault(f"{name} knows a guest that does not exist", "leave out what is not there")
        for name, given in [(name, given) for name, given in CHANGES if hasattr(one, name)]:
            try:
                getattr(one, name)(GHOST, *given)
            except GuestGone:
                continue
            except HypervisorError as error:
                yield subject.remark(f"{name} of a guest that is gone raises {type(error).__name__}", "raise GuestGone")
            except Exception as error:  # noqa: BLE001  # as above
                yield subject.fault(f"{name} of a guest that is gone raises {describe(error)}", "raise GuestGone")
            else:
                yield subject.fault(f"{name} of a guest that is gone does nothing and says nothing", "raise GuestGone")


# --- what is left --------------------------------------------------------------------------------------------------------------

END_SECONDS: Final = 2.0
"""Seconds that a thread may take that was told to end."""

SECRET: Final = "conformance-3b1f0c9e"  # noqa: S105  # no real one: it is planted to be looked for
"""The value of a secret where the settings have none, to be looked for afterwards."""


def traces(subject: ExaminedPlugin) -> Iterator[Finding]:
    """It leaves no thread or open file, changes nothing of the process, and shows no secret from its settings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield from _secrets(subject)  # what is opened once for the process, by the first that needs it, is no leak
        threads, files = set(threading.enumerate()), _open_files()
        with alive(subject) as life:
            for _ in range(CYCLES):
                life.cycle()
            worker = life.subject.worker
    if worker.hung:
        yield subject.fault(f"it does not end in time: {worker.why_not('mom_teardown')}", "mom_teardown waits for nothing without a limit")
        threads |= {thread for thread in threading.enumerate() if thread.name == f"mom-{subject.name}"}  # mom's own, which waits for it
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
    for warning in said:
        if issubclass(warning.category, ResourceWarning | DeprecationWarning):
            yield subject.remark(f"{warning.category.__name__}: {warning.message}", f"{warning.filename}:{warning.lineno}")


def _secrets(subject: ExaminedPlugin) -> Iterator[Finding]:
    secret_types = (SecretStr, SecretBytes, SecretStr | None)
    planted = {name: SECRET for name, field in subject.settings_class.model_fields.items() if field.annotation in secret_types}
    settings = {**planted, **subject.settings}
    model = subject.read_settings(settings)
    logged: list[str] = []
    handler, root = logging.Handler(), logging.getLogger()
    handler.emit = lambda record: logged.append(f"{record.getMessage()} {record.exc_info}")  # type: ignore[method-assign]  # it keeps them
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
            yield subject.fault(f"a secret from its settings stands in {where}", "call get_secret_value() only where it is used")


def _open_files() -> dict[str, str]:
    paths: dict[str, str] = {}
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are all that is needed
        try:
            paths[descriptor] = str(Path("/proc/self/fd", descriptor).readlink())
        except OSError:
            continue  # the one with which the folder itself was read
    return paths


def process_state() -> dict[str, object]:
    """The state of the whole process that no plugin may change, by name."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # asking for the umask itself would set it
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
    return {
        **{f"the handler of {one.name}": signal.getsignal(one) for one in handled},
        **{f"the environment ({name})": value for name, value in os.environ.items()},
        "the locale": locale.setlocale(locale.LC_ALL),
        "the working directory": str(Path.cwd()),
        "the umask": re.findall(r"^Umask:.*", status, re.MULTILINE),
    }


def changes_since(before: dict[str, object]) -> list[str]:
    """The names of what has changed in the process."""
    now = process_state()
    return [what for what in {**before, **now} if before.get(what) != now.get(what)]
