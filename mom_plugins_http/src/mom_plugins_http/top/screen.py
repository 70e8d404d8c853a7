"""Screens of `mom top`: pure functions of a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from mom_core import Severity, Source, Status, count_of, printable
from mom_daemon.report_words import Said, plugin_lines
from mom_plugins_http.top.picture import Drill, FeedState, Json, Looking, Picture
from mom_plugins_http.top.table import below_head, heading, help_lines, in_lines, memory_line, percent, short, too_small, wrapped
from mom_plugins_http.top.terminal import Line, cell, shortened

_HEAD: Final = 5

_SEVERE: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.OK: "dim", None: ""}
_MARKS: Final = {Severity.ERROR: "WRONG: ", Severity.WARNING: "warning: ", Severity.OK: "", None: "  "}
_STATUSES: Final = {"failed": "bold red", "refused": "yellow", "gone": "yellow", "observed": "cyan"}


def body_lines(size: tuple[int, int], picture: Picture | None = None) -> int:
    """Return how many guests fit below the verdict."""
    width, height = size
    above = 0 if picture is None else len(brief_verdict(picture, width, height))
    return max(1, height - _HEAD - 1 - above)


def screen(look: Looking, state: FeedState, picture: Picture | None, size: tuple[int, int], now: float) -> list[Line]:
    """Return all lines. `size` is columns and lines, `now` monotonic seconds."""
    width, height = size
    if small := too_small(size):
        return small
    verdict_below = look.view == "problems"
    lines = body_lines(size, None if verdict_below else picture)
    head = _host_lines(picture, look, state, width, now)
    if picture is None:
        return [*head, *_waiting(state, width)]
    if not verdict_below:
        head = [*brief_verdict(picture, width, height), *head]
    return [*head, *below_head(look, picture, width, lines, lambda: _text(look, state, picture, width))]


def brief_verdict(picture: Picture, width: int, height: int) -> list[Line]:
    """Return the present conditions, then reason and fix of the worst, in at most a third of the lines."""
    said, most = picture.verdict, max(1, (height - 8) // 3)
    told = [*(line for line in said if line.severity is not None), *takewhile(lambda line: line.severity is None, said[1:])]
    lines = [part for line in told for part in _said(line, width)]
    if len(lines) > most:
        lines = [[(cell(_marked(line), width - 1), _SEVERE[line.severity])] for line in told]
    return lines[:most]


def _marked(line: Said) -> str:
    return f"{_MARKS[line.severity]}{line.text}"


def _said(line: Said, width: int) -> list[Line]:
    return wrapped(_marked(line), width, _SEVERE[line.severity])


def _host_lines(picture: Picture | None, look: Looking, state: FeedState, width: int, now: float) -> list[Line]:
    if picture is None:
        return [[("mom top", "bold")], [], [], []]
    lines = [_mom_line(picture, look, now), _memory_line(picture, width), _pressure_line(picture.host)]
    if (trouble := state.trouble) is not None:
        lost = f" {now - state.lost_at:.0f} s" if state.lost_at is not None else ""
        told = wrapped(f"NOT REACHED{lost}: {'; '.join(filter(None, trouble))}", width, "bold red")
        return [lines[0], *told, *lines[1:]][:4]  # the fix is more important than old figures
    if late := picture.late_by(now):
        fourth: Line = [(f"mom has not finished a cycle for {late:.0f} s: it has hung, or is suspended (see mom status)", "bold red")]
    else:
        fourth = _health_line(picture)
    return [*lines, fourth]


def _mom_line(picture: Picture, look: Looking, now: float) -> Line:
    cycle = picture.report["cycle"]
    mode = picture.report["mode"]
    since = max(0.0, now - picture.received)
    skipped = f", {cycle['skipped']} skipped" if cycle["skipped"] else ""
    woken = f", woken by {printable(str(cycle['woken_by']), 30)}" if cycle["woken_by"] else ""
    return [
        (f"mom {picture.report['version']} on {printable(picture.report['host']['name'], 30)}  ", "bold"),
        ("only observes" if mode == "observe" else printable(mode), "bold cyan" if mode == "observe" else ""),
        *([("  PAUSED", "bold reverse")] if look.paused else []),  # before what a narrow screen cuts off
        (f"  cycle {cycle['number']} {since:.0f} s ago, {cycle['duration_seconds'] * 1e3:.0f} ms", ""),
        (f", lag {cycle['lag_seconds'] * 1e3:.0f} ms", "yellow" if cycle["lag_seconds"] > picture.report["interval_seconds"] / 2 else ""),
        (f"{skipped}{woken}", "yellow" if skipped else ""),
    ]


def _memory_line(picture: Picture, width: int) -> Line:
    host = picture.host
    total, available, watermark = (host.get(name) for name in ("mem_available", "mem_really_available", "mem_watermark_high"))
    wanted = ""
    if available is not None and watermark is not None:
        lacks = available < watermark
        wanted = f", {short(watermark - available)} too little ({short(watermark)} wanted)" if lacks else f", {short(watermark)} wanted"
    style = {"error": "red", "warning": "yellow"}.get(picture.memory_severity, "green")
    return memory_line(total, available, style, width, wanted)


def _pressure_line(host: Json) -> Line:
    line: list[tuple[str, str]] = [("psi", "")]
    for kind, label in (("memory", "mem"), ("io", "io"), ("cpu", "cpu")):
        some, full = host.get(f"psi_{kind}_some_avg10"), host.get(f"psi_{kind}_full_avg10")
        if some is not None:
            both = percent(some) if kind == "cpu" or full is None else f"{percent(some)}/{percent(full)}"
            line.append((f" {label} {both}%", "red" if some >= 10 else "yellow" if some >= 1 else ""))
    if len(line) == 1:
        line.append((" unknown", "dim"))
    used, total = host.get("swap_usage"), host.get("swap_total")
    if total:
        into, out = (short(_kib(host, name)) for name in ("swap_in_rate", "swap_out_rate"))
        moving = bool(host.get("swap_in_rate") or host.get("swap_out_rate"))
        line.append((f"  swap {short(used)}/{short(total)}{f' ↓{out} ↑{into}/s' if moving else ''}", "red" if moving else ""))
    elif total == 0:
        line.append(("  no swap", ""))
    if host.get("ksm_run") is not None:
        profit = host.get("ksm_general_profit")
        gain = profit / 1024 if profit is not None else _kib(host, "ksm_pages_sharing")
        line.append((f"  KSM {'on' if host['ksm_run'] == 1 else 'off'} {short(gain)}", ""))
    return line


def _kib(host: Json, field: str) -> float | None:
    pages, size = host.get(field), host.get("page_size")
    return None if pages is None or size is None else pages * size


def _health_line(picture: Picture) -> Line:
    sick = [f"{printable(plugin['name'])} {plugin['state']}" for plugin in picture.report["plugins"] if plugin["state"] != "ok"]
    rows, problems = picture.rows, picture.problems
    size, most = (_sum([row.values.get(name) for row in rows]) for name in ("size", "max"))
    text = "the guests are unknown" if picture.guests_unknown else f"{count_of(len(rows), 'guest')} with {short(size)} of {short(most)}"
    line: list[tuple[str, str]] = [(text, "bold red" if picture.guests_unknown else "")]
    suffer = sum(1 for row in rows if row.harm)
    line += [(f", {suffer} suffer{'s' if suffer == 1 else ''}", "red")] if suffer else []
    changes = sum(count for name, count in picture.report["outcome_counts"].items() if name != Status.UNCHANGED)
    line.append((f", {count_of(changes, 'change')}" if changes else ", nothing changed", ""))
    if problems:
        worst = Severity.ERROR if any(problem.severity is Severity.ERROR for problem in problems) else Severity.WARNING
        line.append((f"  {count_of(len(problems), 'problem')} (!)", _SEVERE[worst]))
    if sick:
        line.append((f"  plugins: {', '.join(sick)}", "bold red"))
    elif not problems and picture.memory_severity == "ok" and not suffer:
        line.append(("  plugins and policies: ok", "green"))
    return line


def _sum(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers or not values else None


def _text(look: Looking, state: FeedState, picture: Picture, width: int) -> list[Line]:
    if look.view == "changes":
        return _changes(picture.acts, width)
    if look.view == "problems":
        return _problems(picture, width)
    if look.view == "help":
        return help_lines(picture, width)
    return _one_guest(look, state.drill, picture, width)


def _changes(acts: Sequence[Json], width: int) -> list[Line]:
    out = [heading("what mom did, newest first", width)]
    if not acts:
        return [*out, [("nothing in the period that mom keeps", "dim")]]
    return [*out, *(line for act in acts for line in _act(act, width))]


def _who(act: Json) -> str:
    name = shortened(printable(act["first"][0]["name"] if act["first"] else act["who"], 200), 24)
    return f"{name} and {act['about'] - 1} more" if act["about"] > 1 else name


def _clock(act: Json) -> str:
    return time.strftime("%H:%M:%S", time.localtime(act["time"]))


def _act(act: Json, width: int, *, named: bool = True) -> list[Line]:
    source = f" ({Source(**act['source'])})" if act["source"] else ""
    who = f"{_who(act)} " if named else ""
    text = printable(f"{who}{act['text']}{source}", 600)
    first, *more = in_lines(text, width - 11)
    return [[(f"{_clock(act)} ", "dim"), (first, _STATUSES.get(act["status"], ""))], *[[(f"         {line}", "dim")] for line in more]]


def _problems(picture: Picture, width: int) -> list[Line]:
    out = [heading("problems, and plugins", width)]
    out += [line for said in picture.verdict for line in _said(said, width)]
    out += [line for said in picture.problems for line in wrapped(said.text, width, _SEVERE[said.severity])]
    if not picture.problems:
        out.append([("no problems", "green")])
    plugins = [line for said in plugin_lines(picture.report) for line in wrapped(said.text, width, _SEVERE[said.severity])]
    return [*out, [], [("plugins", "bold")], *plugins]


def _one_guest(look: Looking, drill: Drill | None, picture: Picture, width: int) -> list[Line]:
    row = next((row for row in picture.rows if row.id == look.marked), None)
    out = [heading(f"{printable(look.marked) if row is None else row.name}  (Esc: back)", width)]
    if drill is None or drill.id != look.marked:
        return [*out, [("waiting for mom …", "dim")]]
    if drill.trouble:
        return [*out, *wrapped(f"{drill.trouble}.", width, "yellow")]
    out += _explained(drill.explanation, width)
    if drill.acts:
        out += [[], [("recent changes by mom", "bold")]]
        out += [line for act in drill.acts[:12] for line in _act(act, width, named=False)]
    fields = [f"{name} {printable(str(value), 60)}" for name, value in sorted(drill.guest["fields"].items()) if value is not None]
    return [*out, [], [("all fields", "bold")], *wrapped("  ".join(fields), width)]


def _explained(explanation: Json, width: int) -> list[Line]:
    out: list[Line] = []
    topic = ""
    for sentence in explanation["sentences"]:
        label = cell(printable(str(sentence["topic"])) if sentence["topic"] != topic else "", 11)
        topic = sentence["topic"]
        for number, line in enumerate(in_lines(printable(str(sentence["text"]), 2000), width - 14)):
            out.append([(label if not number else " " * 11, "bold cyan"), (" " + line, "")])
    return out


def _waiting(state: FeedState, width: int) -> list[Line]:
    message, hint = state.trouble or ("waiting for mom", "")
    lines = wrapped(message[:1].upper() + message[1:] + ".", width, "bold")
    if hint:
        lines += wrapped(hint[:1].upper() + hint[1:] + ".", width)
    return [*lines, [], [("Retrying every second. q: quit", "dim")]]
