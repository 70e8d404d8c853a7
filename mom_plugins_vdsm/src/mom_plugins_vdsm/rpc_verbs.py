"""MOM's RPC verbs: what each is called with, does and returns, as MOM's clients know it."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from mom_core import DiskTune, MomError, PermissionDenied, PluginContext, Report, Scope, Value, as_items, printable
from mom_kvm import PolicyProblem, PolicyRefused, PolicyTexts
from mom_plugins_vdsm.rpc_codec import read_call, write_answer, write_fault

MAIN_POLICY: Final = "50_main_"
"""The name under which MOM stores a policy that comes without one."""

NEEDED_BY_VDSM: Final = ("ksm_run", "ksm_merge_across_nodes", "ksm_pages_to_scan", "ksm_pages_sharing", "ksmd_cpu_usage")
"""Host fields without which vdsm's own answers to its engine fail: they are 0 as long as nothing is known."""

GUEST_FIELDS: Final = (
    "balloon_cur", "balloon_max", "balloon_min", "mem_available", "mem_unused", "swap_in", "swap_out", "major_fault", "minor_fault",
    "swap_total", "swap_usage", "vcpu_quota", "vcpu_period", "vcpu_user_limit", "vcpu_count", "io_tune", "io_tune_current",
)  # fmt: skip
"""MOM's guest fields: a client may look for each, so that those of which nothing is known are nil rather than absent."""

LEVELS: Final = ("critical", "error", "warn", "info", "debug")
"""Of the log; MOM's clients may write their numbers, from 1."""

ALL_POLICIES: Final = ""
"""Stands for all policies together, among those that were refused."""

MOST_REFUSED: Final = 20
"""So many refused policies are remembered: a client can think of any number of names."""

MOST_LEFT_OUT: Final = 10
"""How often what is wrong with parameters is left out, and the rest tried: one thing can hide another."""

_PARAMETER: Final = re.compile(r"\(set \S.*\)|#.*|\s*")
"""A line of what vdsm sets for `Host.setMOMPolicyParameters`."""

_POLICY_CALL: Final = re.compile(
    rb"<methodName>\s*(setPolicy|setNamedPolicy)\s*</methodName>(?:\s*<params>\s*<param>\s*<value>\s*<string>([^<]{1,1000})</string>)?"
)
"""Beginning of a call that sets a policy: the verb and, for one with a short first text, that text."""

ABSENT_IS_0: Final = ("swap_total", "swap_usage")
"""Guest fields that MOM knows to be 0 where vdsm does not tell them, as it does of no guest today."""

_ALL_CONTROLS: Final = "*"
"""The block of a guest to which nothing can be done."""

CHANGING: Final = frozenset({"setPolicy", "setNamedPolicy", "resetPolicies", "setVerbosity"})
"""The verbs that change something."""

_STILL: Final = "what was in force before is in force still"


class Verbs:
    """Answers calls, from any thread.

    :param context: has the evaluator's policies and what the plugins declare, as they are at the moment of the call
    :param nil: nil may be sent: on a unix socket, not on TCP
    :param read_only: verbs that change something are refused
    """

    def __init__(self, context: PluginContext, where: str, *, nil: bool, read_only: bool = False) -> None:
        self.read_only = read_only
        self._context = context
        self._where = where
        self._log = context.log
        self._nil = nil
        self._report: Report | None = None
        self._statistics: tuple[Report | None, bytes] | None = None
        self._marshalling = threading.Lock()
        self._refused: dict[str, tuple[str, str]] = {}
        """Of each policy whose last change was refused, and not made good since: what was wrong, and what is in force."""
        self._verbs: Mapping[str, tuple[Callable[..., object], int]] = {
            "ping": (lambda peer: self._works(), 0),
            "getStatistics": (lambda peer: self._newest(), 0),
            "getActiveGuests": (lambda peer: self._guests(), 0),
            "getPolicy": (lambda peer: self._joined(), 0),
            "getNamedPolicies": (lambda peer: self._named(), 0),
            "setPolicy": (self._set_policy, 1),
            "setNamedPolicy": (self._set_named, 2),
            "resetPolicies": (self._reset, 0),
            "setVerbosity": (self._set_verbosity, 1),
        }
        """Each verb, and how many parameters it takes."""

    def note(self, report: Report) -> None:
        """From now on, this is the newest report."""
        self._report = report

    def is_change(self, body: bytes) -> bool:
        """True if a call is one for a change of policies, which may take its time."""
        return any(name in body for name in (b"setPolicy", b"setNamedPolicy", b"resetPolicies"))

    def refused(self) -> Iterable[tuple[str, str]]:
        """Why changes were not made, or not as a whole, and what is in force. A client may not have told."""
        return tuple(self._refused.values())

    def answer(self, body: bytes, peer: str) -> bytes:
        """The answer to a call, or a fault. Never raises, and `getStatistics` never faults."""
        method = "a call"
        try:
            method, params = read_call(body)
            if method == "getStatistics" and not params:
                return self._statistics_answer()
            return write_answer(self._called(method, params, peer), nil=self._nil)
        except Exception as error:  # noqa: BLE001  # the client learns of a mistake here, too; expat and xmlrpc raise a dozen kinds
            self._log.warning("%s: %s by %s is refused: %s", self._where, printable(method), peer, printable(str(error), 400))
            self._log.debug("where that was", exc_info=True)
            return write_fault(f"{type(error)}:{printable(str(error), 1000)}")

    def _called(self, method: str, params: Sequence[object], peer: str) -> object:
        verb, count = self._verbs.get(method, (None, 0))
        if verb is None:
            raise Exception(f'method "{method}" is not supported')  # noqa: TRY002  # clients are told its class, which MOM's server had
        if len(params) != count:
            raise TypeError(f"{method} takes {count} parameters, and {len(params)} are given")
        if self.read_only and method in CHANGING:
            hint = "listen on a unix socket, whose permissions say who may, or set changes_over_tcp: true for the plugin xmlrpc"
            raise PermissionDenied(f"{method} changes something, and nothing can be changed over TCP", hint=hint)
        return verb(peer, *params)

    # --- statistics -----------------------------------------------------------------------------------------------------------------

    def _statistics_answer(self) -> bytes:
        """The answer is written once for each report: vdsm asks every few seconds, and several of its threads may at once."""
        with self._marshalling:
            report = self._report
            if self._statistics is None or self._statistics[0] is not report:
                try:
                    written = write_answer(self._newest(), nil=self._nil)
                except Exception:  # noqa: BLE001  # vdsm takes a fault here for a broken host
                    self._log.exception("%s: the statistics cannot be told", self._where)
                    written = write_answer({"host": dict.fromkeys(NEEDED_BY_VDSM, 0), "guests": {}}, nil=self._nil)
                self._statistics = (report, written)
            return self._statistics[1]

    def _newest(self) -> dict[str, object]:
        report = self._report
        snapshot = report.snapshot if report is not None else None
        host: dict[str, object] = dict(snapshot.host.fields) if snapshot is not None else {}
        for name in NEEDED_BY_VDSM:
            host[name] = _whole(host.get(name))
        declared = [name for name in GUEST_FIELDS if (Scope.GUEST, name) in self._context.declarations.fields]
        unknown = dict.fromkeys(declared)
        guests: dict[str, object] = {}
        for guest in snapshot.guests.values() if snapshot is not None else ():
            guests[guest.name] = {**unknown, **_told(guest.fields)}
        return {"host": host, "guests": guests}

    def _works(self) -> bool:
        """The `momStatus` of vdsm's engine: of what is in force, whatever was refused."""
        evaluated = self._context.service(PolicyTexts)
        return evaluated is None or not evaluated.failure()

    def _guests(self) -> list[str]:
        """Those that something can be done about: MOM leaves out what is paused, starting or on its way to another host, and what was not
        sampled yet, of which the number of virtual CPUs is unknown.
        """
        report = self._report
        guests = report.snapshot.guests.values() if report is not None else ()
        sampled = (Scope.GUEST, "vcpu_count") in self._context.declarations.fields
        return [
            guest.name
            for guest in guests
            if _ALL_CONTROLS not in guest.blocked and (not sampled or guest.fields.get("vcpu_count") is not None)
        ]

    # --- policies -------------------------------------------------------------------------------------------------------------------

    def _texts(self) -> PolicyTexts:
        policies = self._context.service(PolicyTexts)
        if policies is None:
            raise MomError("no plugin evaluates policies", hint="enable the plugin policy")
        return policies

    def _named(self) -> dict[str, str]:
        return {name: policy.text for name, policy in self._texts().state().texts.items()}

    def _joined(self) -> str:
        return "\n".join(self._named().values()) or "0"

    def _set_policy(self, peer: str, text: object) -> bool:
        return self._changed(peer, "setPolicy", {MAIN_POLICY: _policy(text)}, replace_all=True)

    def _set_named(self, peer: str, name: object, text: object) -> bool:
        if not isinstance(name, str):
            raise TypeError("a policy's name is a text")
        return self._changed(peer, "setNamedPolicy", {name: None if text is None else _policy(text)})

    def _reset(self, peer: str) -> bool:
        return self._changed(peer, "resetPolicies", None, replace_all=True)

    def _changed(self, peer: str, method: str, texts: Mapping[str, str | None] | None, *, replace_all: bool = False) -> bool:
        """Make a change, or go back to the files (None). False: it is refused, which the log and `refused` tell."""
        name = ALL_POLICIES if replace_all or texts is None else next(iter(texts))
        try:
            left_out = self._change(texts, f"{peer} through {self._where}", replace_all=replace_all)
        except PolicyRefused as refused:
            return self._refuse(peer, method, name, [str(each) for each in refused.problems] or [refused.message])
        if not name:
            self._refused.clear()
        self._refused.pop(name, None)
        if left_out:
            problems = [str(each) for each in left_out]
            self._tell(logging.WARNING, f"{method} by {peer} is taken without what is wrong", problems)
            lines, wrong = len({one.line for one in left_out}), printable(problems[0], 400)
            still = "the other lines are in force; a policy in the files may define what these set"
            self._refused[name] = (f"{_last_set(name)} in force without {lines} of its lines: {wrong}", still)
        return True

    def _refuse(self, peer: str, method: str, name: str, problems: Sequence[str]) -> bool:
        """Note a change that is refused. Return the answer to its call."""
        self._tell(logging.ERROR, f"{method} by {peer} is refused, and nothing changes", problems)
        self._refused.pop(name, None)
        while len(self._refused) >= MOST_REFUSED:
            self._refused.pop(next(iter(self._refused)))
        self._refused[name] = (f"{_last_set(name)} refused: {printable(problems[0], 400)}", _STILL)
        return False

    def refuse_large(self, beginning: bytes, peer: str, most: int) -> bytes:
        """Answer a call that is too large to be read. vdsm takes no other answer to a policy than one to its call: after an HTTP error, it
        calls a mom dead for 5 s.

        :param beginning: of the call, with the verb's name
        :param most: bytes that are read of a call
        """
        called = _POLICY_CALL.search(beginning)
        wrong = f"the call is larger than {most:,} bytes; make the policy smaller, or raise `largest` of the plugin xmlrpc"
        if called is None or self.read_only:
            self._log.warning("%s: a call by %s is refused: %s", self._where, peer, wrong)
            return write_fault(wrong)
        method, name = (part.decode("utf-8", "replace") if part is not None else ALL_POLICIES for part in called.groups())
        return write_answer(self._refuse(peer, method, name if method == "setNamedPolicy" else ALL_POLICIES, [wrong]), nil=self._nil)

    def _change(self, texts: Mapping[str, str | None] | None, who: str, *, replace_all: bool) -> Sequence[PolicyProblem]:
        """Make it; of parameters, without those that are wrong, which are returned. Raises `PolicyRefused`.

        vdsm repeats all parameters that it was ever told, so one that is wrong would be there until vdsm is restarted.
        """
        if texts is None:
            self._texts().reset(who=who)
            return ()
        left_out: list[PolicyProblem] = []
        while True:
            try:
                self._texts().change(texts, who=who, replace_all=replace_all)
            except PolicyRefused as refused:
                fitting = None if replace_all or len(left_out) >= MOST_LEFT_OUT else _without_wrong(texts, refused.problems)
                if fitting is None:
                    raise
                texts = fitting
                left_out += refused.problems
            else:
                return left_out

    def _tell(self, level: int, done: str, problems: Sequence[str]) -> None:
        for problem in problems[:10]:
            self._log.log(level, "%s: %s: %s", self._where, done, printable(problem, 400))

    # --- the daemon -----------------------------------------------------------------------------------------------------------------

    def _set_verbosity(self, peer: str, level: object) -> bool:
        said = str(level).strip().lower()
        name = dict(zip("12345", LEVELS, strict=True)).get(said, said)
        if name not in LEVELS:
            raise ValueError(f"{printable(said)} is no level: {', '.join(LEVELS)}, or 1 to 5")
        wanted = logging.getLevelNamesMapping()[name.upper()]
        logging.getLogger("mom").setLevel(wanted)
        self._log.log(wanted, "%s: %s sets the log level to %s", self._where, peer, logging.getLevelName(wanted))
        return True


def _last_set(name: str) -> str:
    return f"the policy {printable(name)} that was set last is" if name else "the policies that were set last are"


def _policy(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError("a policy is a text")
    return text


def _without_wrong(texts: Mapping[str, str | None], problems: Sequence[PolicyProblem]) -> dict[str, str | None] | None:
    """A text of parameters without the lines that are wrong. None where it is another kind of text, nothing would be left, or others would
    be wrong, too."""
    ((name, text),) = texts.items()
    lines = (text or "").split("\n")
    wrong = {one.line for one in problems}
    if any(one.name != name for one in problems) or not all(_PARAMETER.fullmatch(line) for line in lines):
        return None
    kept = ["" if number in wrong else line for number, line in enumerate(lines, 1)]  # as many lines, so that places stay
    return {name: "\n".join(kept)} if kept != lines and any(line.startswith("(") for line in kept) else None


def _whole(value: object) -> int:
    """A number for vdsm, which takes 0 for what is not known."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return round(value)


def _told(fields: Mapping[str, Value]) -> dict[str, object]:
    """A guest's fields as MOM tells them."""
    told: dict[str, object] = dict(fields)
    if fields.get("mem_available") is not None:
        told.update({name: 0 for name in ABSENT_IS_0 if fields.get(name) is None})
    disks, now = (as_items(fields.get(name)) or () for name in ("io_tune", "io_tune_current"))
    agreed = [disk for disk in disks if _limits(disk.get("maximum")) or _limits(disk.get("guaranteed"))]
    places = {_place(disk) for disk in agreed}
    if "io_tune" in fields:
        told["io_tune"] = [_with_limits(disk) for disk in agreed] or None
    if "io_tune_current" in fields:
        told["io_tune_current"] = [
            {"name": disk.get("name"), "path": disk.get("path"), "ioTune": _limits(disk)} for disk in now if _place(disk) in places
        ] or None
    return told


def _place(disk: Mapping[str, Value]) -> tuple[str, str]:
    return str(disk.get("name")), str(disk.get("path"))


def _with_limits(disk: Mapping[str, Value]) -> dict[str, object]:
    """A disk in `io_tune`, where its limits were objects with an attribute `vals`."""
    limits = {part: {"vals": _limits(disk.get(part))} for part in ("guaranteed", "maximum", "current")}
    return {"name": disk.get("name"), "path": disk.get("path"), **limits}


def _limits(value: object) -> dict[str, Value]:
    """The limits that are known."""
    return {key: value[key] for key in DiskTune.LIMITS if value.get(key) is not None} if isinstance(value, Mapping) else {}
