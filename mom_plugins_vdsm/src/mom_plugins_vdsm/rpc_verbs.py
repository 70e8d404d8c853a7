"""MOM's RPC verbs, with the same parameters and answers as in MOM; and their XML."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from xmlrpc.client import Fault, Marshaller, loads

from mom_core import DiskTune, MomError, PermissionDenied, PluginContext, Report, Scope, Value, as_items, printable
from mom_kvm import PolicyProblem, PolicyState, PolicyTexts

_MOST_TAGS: Final = 1000
"""Maximum number of tags in a call. A call with two strings has 18."""

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Matches a character that XML 1.0 forbids."""


def read_call(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return the method and the parameters of a call.

    :raises Exception: the body is not an XML-RPC call, or has a document type, entities, comments or too many tags
    """
    text = body.decode()
    if "<!" in text or text.count("<") > _MOST_TAGS:
        raise ValueError(f"a call has no document type, no entities, and at most {_MOST_TAGS} tags")
    params, method = loads(text, use_builtin_types=True)
    return method or "", params


def _dump_whole(writer: Marshaller, value: int, write: Callable[[str], object]) -> None:
    kind = "int" if -(1 << 31) <= value < 1 << 31 else "i8"
    write(f"<value><{kind}>{value}</{kind}></value>\n")


def _plain(value: object, nil: bool) -> object:
    # Send unknown values as nil. Without `nil`, omit them from structs, and send empty strings elsewhere.
    if _unknown(value):
        return None if nil else ""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item, nil) for name, item in value.items() if nil or not _unknown(item)}
    if isinstance(value, list | tuple):
        return [_plain(item, nil) for item in value]
    return value if isinstance(value, int | float) else str(value)


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _response(content: Fault | tuple[Any, ...]) -> bytes:
    writer = Marshaller(allow_none=True)
    writer.dispatch = {**Marshaller.dispatch, int: _dump_whole}
    text = _NO_XML.sub("\ufffd", writer.dumps(content))
    # A parser turns a carriage return into a line feed, unless it is written as a character reference.
    return f"<?xml version='1.0'?>\n<methodResponse>\n{text}</methodResponse>\n".replace("\r", "&#13;").encode()


# --- verbs ---------------------------------------------------------------------------------------------------------------------

_MAIN_POLICY: Final = "50_main_"
"""Name that MOM gives to a policy that is set without a name."""

_NEEDED_BY_VDSM: Final = ("ksm_run", "ksm_merge_across_nodes", "ksm_pages_to_scan", "ksm_pages_sharing", "ksmd_cpu_usage")
"""Host fields that vdsm needs to answer its engine. mom sends unknown fields as 0."""

GUEST_FIELDS: Final = (
    "balloon_cur", "balloon_max", "balloon_min", "mem_available", "mem_unused", "swap_in", "swap_out", "major_fault", "minor_fault",
    "swap_total", "swap_usage", "vcpu_quota", "vcpu_period", "vcpu_user_limit", "vcpu_count", "io_tune", "io_tune_current",
)  # fmt: skip
"""Guest fields of MOM. Clients may expect each of them, so mom sends unknown fields as nil."""

LEVELS: Final = ("critical", "error", "warn", "info", "debug")
"""Names of log levels. MOM's clients may also use numbers; the first level is 1."""

_MOST_LEFT_OUT: Final = 10
"""How often mom tries again without the invalid lines of a policy. One error can hide another."""

_PARAMETER: Final = re.compile(r"\(set \S.*\)|#.*|\s*")
"""Line of a policy that vdsm makes for `Host.setMOMPolicyParameters`: a parameter, a comment, or empty."""

_ABSENT_IS_0: Final = ("swap_total", "swap_usage")
"""Guest fields that are 0 in MOM, because vdsm does not report them."""

_ALL_CONTROLS: Final = "*"
"""Key in a guest's `blocked` that stands for all controls."""

_CHANGING: Final = frozenset({"setPolicy", "setNamedPolicy", "resetPolicies", "setVerbosity"})

_UNCHANGED: Final = "the previous policies stay in force"


class Verbs:
    """Implementation of the verbs. Thread-safe.

    :param nil: whether answers may contain nil; true on a unix socket, false on TCP
    :param read_only: refuse the verbs that change something
    """

    def __init__(self, context: PluginContext, where: str, *, nil: bool, read_only: bool = False) -> None:
        self.read_only = read_only
        self._context = context
        self._where = where
        self._log = context.log
        self._nil = nil
        self._report: Report | None = None
        self._refused: dict[str, tuple[str, str]] = {}
        """Results of `refused`, keyed by verb."""
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
        """Method for each verb, with the verb's number of parameters."""

    def note(self, report: Report) -> None:
        """Store the newest report, the source of statistics in answers."""
        self._report = report

    def is_change(self, body: bytes) -> bool:
        """Return whether the call may change policies, which takes time."""
        return any(name in body for name in (b"setPolicy", b"setNamedPolicy", b"resetPolicies"))

    def refused(self) -> Iterable[tuple[str, str]]:
        """Return the refused policies. For each: the problem, and what is in force instead."""
        return tuple(self._refused.values())

    def answer(self, body: bytes, peer: str) -> bytes:
        """Execute a call, and return the answer, or a fault. Raise nothing."""
        method = "a call"
        try:
            method, params = read_call(body)
            return _response((_plain(self._called(method, params, peer), self._nil),))
        except Exception as error:  # noqa: BLE001  # the client gets a fault; expat and xmlrpc raise a dozen kinds
            self._log.warning("%s: refused %s from %s: %s", self._where, printable(method), peer, printable(str(error), 400))
            self._log.debug("traceback of the refused call", exc_info=True)
            return _response(Fault(1, f"{type(error)}:{printable(str(error), 1000)}"))

    def _called(self, method: str, params: Sequence[object], peer: str) -> object:
        verb, count = self._verbs.get(method, (None, 0))
        if verb is None:
            raise Exception(f'method "{method}" is not supported')  # noqa: TRY002  # clients see this class, as from MOM's server
        if len(params) != count:
            raise TypeError(f"{method} takes {count} parameters, not {len(params)}")
        if self.read_only and method in _CHANGING:
            hint = "listen on a unix socket with suitable permissions, or set changes_over_tcp: true for the xmlrpc plugin"
            raise PermissionDenied(f"TCP clients have no permission to call {method}, because it changes settings", hint=hint)
        return verb(peer, *params)

    # --- statistics -----------------------------------------------------------------------------------------------------------------

    def _newest(self) -> dict[str, object]:
        report = self._report
        snapshot = report.snapshot if report is not None else None
        host: dict[str, object] = dict(snapshot.host.fields) if snapshot is not None else {}
        for name in _NEEDED_BY_VDSM:
            host[name] = _rounded(host.get(name))
        declared = [name for name in GUEST_FIELDS if (Scope.GUEST, name) in self._context.declarations.fields]
        unknown = dict.fromkeys(declared)
        guests: dict[str, object] = {}
        for guest in snapshot.guests.values() if snapshot is not None else ():
            guests[guest.name] = {**unknown, **_as_mom_shows(guest.fields)}
        return {"host": host, "guests": guests}

    def _works(self) -> bool:
        evaluated = self._context.service(PolicyTexts)
        return evaluated is None or not evaluated.failure()

    def _guests(self) -> list[str]:
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
            raise MomError("no plugin evaluates policies", hint="enable the policy plugin")
        return policies

    def _named(self) -> dict[str, str]:
        return {name: policy.text for name, policy in self._texts().state().texts.items()}

    def _joined(self) -> str:
        return "\n".join(self._named().values()) or "0"

    def _set_policy(self, peer: str, text: object) -> bool:
        return self._changed(peer, "setPolicy", {_MAIN_POLICY: _policy(text)}, replace_all=True)

    def _set_named(self, peer: str, name: object, text: object) -> bool:
        if not isinstance(name, str):
            raise TypeError("a policy's name must be a string")
        return self._changed(peer, "setNamedPolicy", {name: None if text is None else _policy(text)})

    def _reset(self, peer: str) -> bool:
        return self._changed(peer, "resetPolicies", None, replace_all=True)

    def _changed(self, peer: str, method: str, texts: Mapping[str, str | None] | None, *, replace_all: bool = False) -> bool:
        last_set = "the policies that were set last are"
        if texts is not None and not replace_all:
            last_set = f"the policy {printable(next(iter(texts)))} that was set last is"
        try:
            left_out = self._change(texts, f"{peer} through {self._where}", replace_all=replace_all)
        except PolicyState.Refused as refused:
            problems = [str(problem) for problem in refused.problems] or [refused.message]
            self._tell(logging.ERROR, f"{method} by {peer} is refused, and nothing changes", problems)
            self._refused[method] = (f"{last_set} refused: {printable(problems[0], 400)}", _UNCHANGED)
            return False
        if replace_all:
            self._refused.clear()
        self._refused.pop(method, None)
        if left_out:
            self._tell(logging.WARNING, f"{method} by {peer} is accepted without its invalid lines", [str(problem) for problem in left_out])
            lines, first = len({problem.line for problem in left_out}), printable(str(left_out[0]), 400)
            in_force = "the other lines are in force; if the refused lines set unknown variables, define these in a policy file"
            self._refused[method] = (f"{last_set} in force without {lines} of its lines: {first}", in_force)
        return True

    def _change(self, texts: Mapping[str, str | None] | None, who: str, *, replace_all: bool) -> Sequence[PolicyProblem]:
        if texts is None:
            self._texts().reset(who=who)
            return ()
        left_out: list[PolicyProblem] = []
        while True:
            try:
                self._texts().change(texts, who=who, replace_all=replace_all)
            except PolicyState.Refused as refused:
                fitting = None if replace_all or len(left_out) >= _MOST_LEFT_OUT else _without_invalid(texts, refused.problems)
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
        text = str(level).strip().lower()
        name = dict(zip("12345", LEVELS, strict=True)).get(text, text)
        if name not in LEVELS:
            raise ValueError(f"{printable(text)} is not a log level; use {', '.join(LEVELS)}, or 1 to 5")
        number = logging.getLevelNamesMapping()[name.upper()]
        logging.getLogger("mom").setLevel(number)
        self._log.log(number, "%s: %s sets the log level to %s", self._where, peer, logging.getLevelName(number))
        return True


def _policy(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError("a policy must be a string")
    return text


def _without_invalid(texts: Mapping[str, str | None], problems: Sequence[PolicyProblem]) -> dict[str, str | None] | None:
    """Return the policy without its invalid lines; None if the call must be refused as a whole."""
    ((name, text),) = texts.items()
    lines = (text or "").split("\n")
    invalid = {problem.line for problem in problems}
    if any(problem.name != name for problem in problems) or not all(_PARAMETER.fullmatch(line) for line in lines):
        return None
    kept = ["" if number in invalid else line for number, line in enumerate(lines, 1)]  # empty lines keep the line numbers
    return {name: "\n".join(kept)} if kept != lines and any(line.startswith("(") for line in kept) else None


def _rounded(value: object) -> int:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return round(value)


def _as_mom_shows(fields: Mapping[str, Value]) -> dict[str, object]:
    shown: dict[str, object] = dict(fields)
    if fields.get("mem_available") is not None:
        shown.update({name: 0 for name in _ABSENT_IS_0 if fields.get(name) is None})
    disks, now = (as_items(fields.get(name)) or () for name in ("io_tune", "io_tune_current"))
    agreed = [disk for disk in disks if _limits(disk.get("maximum")) or _limits(disk.get("guaranteed"))]
    places = {_place(disk) for disk in agreed}
    if "io_tune" in fields:
        shown["io_tune"] = [_with_limits(disk) for disk in agreed] or None
    if "io_tune_current" in fields:
        shown["io_tune_current"] = [
            {"name": disk.get("name"), "path": disk.get("path"), "ioTune": _limits(disk)} for disk in now if _place(disk) in places
        ] or None
    return shown


def _place(disk: Mapping[str, Value]) -> tuple[str, str]:
    return str(disk.get("name")), str(disk.get("path"))


def _with_limits(disk: Mapping[str, Value]) -> dict[str, object]:
    limits = {part: {"vals": _limits(disk.get(part))} for part in ("guaranteed", "maximum", "current")}
    return {"name": disk.get("name"), "path": disk.get("path"), **limits}


def _limits(value: object) -> dict[str, Value]:
    return {key: value[key] for key in DiskTune.LIMITS if value.get(key) is not None} if isinstance(value, Mapping) else {}
