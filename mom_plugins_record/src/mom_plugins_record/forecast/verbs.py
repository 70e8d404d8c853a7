"""Subcommand `mom forecast`: shows learned daily use, and learns it from recordings."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from mom_core import Guest, MomError, count_of, format_kib, load_config, printable
from mom_daemon import KeptPath, TableColumn, config_option, find_guest, json_option, print_prose, print_table, progress, recording
from mom_plugins_record.forecast.curve import HOUR_SLOTS, LEAST_WEIGHT, SLOTS, WEEK_DAYS, WEEK_SLOTS
from mom_plugins_record.forecast.files import days_in, leave
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.plugin import CALENDAR, days_folder

PROGRESS_EVERY: Final = 500
"""Number of cycles between two progress reports."""

NOBODY: Final = "No daily memory use of guests is known."


def days_json(guest: KnownGuest) -> dict[str, Any]:
    """Return a guest's learned days for JSON. Sizes in KiB; None if unknown.

    - `slot_seconds`, `slots`, `week_days`: length of a slot, slots per day in local time, and days per week
    - `expected`, `most`: expected average and maximum for each slot of the week
    - `came`: last use for each slot of a day
    - `errors_by_hour`: errors in each of 24 parts of the day
    """
    days, calendar = guest.days, guest.days.calendar
    monday = next(index for index in range(WEEK_SLOTS) if calendar.of_week(index) == 0)
    expected, most = _expected(guest, monday, WEEK_SLOTS)
    return {
        "id": guest.id,
        "name": guest.name,
        "slot_seconds": calendar.slot_seconds,
        "slots": SLOTS,
        "week_days": WEEK_DAYS,
        "expected": expected,
        "most": most,
        "error_kib": _known([days.error])[0],
        "surprise_kib": days.margin if days.wrong[3] else None,
        "errors_by_hour": _known(days.hour_errors),
        "now_error_kib": _known([days.now_error])[0],
        "came": _known(days.last),
        "learned_slots": days.slots,
        "has_pattern": days.has_pattern,
        "weight": round(days.weight, 3),
    }


def _expected(guest: KnownGuest, first: int, count: int) -> tuple[Sequence[float | None], Sequence[float | None]]:
    # Usual use and usual maximum in `count` slots.
    usual = [guest.days.expected(index) for index in range(first, first + count)]
    return _known(usual), _known(value + guest.days.excess_of(first + place) for place, value in enumerate(usual))


def _known(values: Iterable[float]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else round(value, 1) for value in values)


@click.group("forecast", context_settings={"help_option_names": ["-h", "--help"]})
def forecast() -> None:
    """Show guests' usual memory use by time of day and week, and learn it from recordings."""


@forecast.command("show")
@click.argument("guest", required=False)
@click.option("--file", type=KeptPath(), help="File or folder of learned days.  [default: those of this host's mom]")
@config_option
@json_option
def show_command(guest: str | None, file: Path | None, config_path: str | None, as_json: bool) -> None:
    """Show guests' patterns, their usual use at this time, and the errors of their forecasts. For one GUEST (name or id), show its day:
    expected use, actual use, and the error.

    Exit code 1 if nothing is learned yet, or nothing about that guest.
    """
    found = days_in(file or days_folder(load_config(config_path)))
    known = {identity: item for identity, item in found.known.items() if item.days.slots}
    if guest is not None:
        item = known[find_guest({identity: Guest(identity, item.name) for identity, item in known.items()}, guest).id]
        click.echo(json.dumps(days_json(item), indent=2)) if as_json else _print_guest(item)
        return
    if as_json:
        click.echo(json.dumps([days_json(item) for item in known.values()], indent=2))
    elif known:
        _print_all(sorted(known.values(), key=lambda item: (item.name, item.id)))
    else:
        print_prose(NOBODY, 2)
    if not known:
        raise click.exceptions.Exit(1)


@forecast.command("learn")
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@config_option
def learn_command(recordings: Sequence[Path], config_path: str | None) -> None:
    """Learn guests' daily memory use from RECORDINGS, given in order of time, so that mom need not observe these days first. Forecasts and
    `mom advise --risk` use the result. `mom advise --risk` needs two weeks.

    mom merges the result for guests that it knows less well when it starts, or at `systemctl reload mom`.
    """
    folder = days_folder(load_config(config_path))
    days = HostDays(CALENDAR)
    with progress(shown=True) as show:
        for path in recordings:
            _learn(days, path, show)
    learned_guests = [item for item in days.known.values() if item.days.slots]
    if not learned_guests:
        raise MomError("nothing could be learned", hint="a recording must cover at least one slot, which is 15 minutes of a day")
    leave(folder, days)
    patterns = sum(item.days.has_pattern for item in learned_guests)
    most = max(item.days.slots for item in learned_guests) / SLOTS
    learned = f"Learned {most:.1f} days of {count_of(len(learned_guests), 'guest')}, of which {patterns} have a pattern."
    print_prose(f"{learned} mom merges them at its start, or at `systemctl reload mom`.", 2)


def _learn(days: HostDays, path: Path, show: Callable[[str], None]) -> None:
    for number, past in enumerate(recording(None, path).cycles(-math.inf, math.inf)):
        days.see(past.report.snapshot)
        if number % PROGRESS_EVERY == 0:
            show(f"{path}: {time.strftime('%Y-%m-%d %H:%M', time.localtime(past.report.time))}")


def _size(kib: float | None) -> str:
    return "-" if kib is None else format_kib(kib)


def _print_all(guests: Sequence[KnownGuest]) -> None:
    rows = []
    for guest in guests:
        days, (now, first) = guest.days, _today(guest)
        usual, most = _expected(guest, first, SLOTS)
        pattern = "-" if not days.has_pattern else "yes" if days.weight >= LEAST_WEIGHT else "differs"
        errors = map(_size, _known([days.error, days.now_error]))
        peak = max(_without_unknown(most), default=None)
        rows.append([printable(guest.name), pattern, _size(usual[now - first]), _size(peak), *errors, f"{days.slots / SLOTS:.1f}"])
    print_table(
        ["GUEST", "PATTERN", TableColumn("USUAL NOW"), TableColumn("MOST TODAY"), TableColumn("WRONG BY"), TableColumn("AS NOW", 1),
         TableColumn("DAYS", 2)],
        rows,
    )  # fmt: skip


def _print_guest(guest: KnownGuest) -> None:
    days = guest.days
    click.echo(click.style(printable(guest.name), bold=True))
    columns = (_hourly(_expected(guest, _today(guest)[1], SLOTS)[0]), _hourly(_known(days.last)), _known(days.hour_errors))
    rows = [(f"{hour:02}:00", *map(_size, figures)) for hour, figures in enumerate(zip(*columns, strict=True))]
    print_table(["HOUR", *map(TableColumn, ("USUAL", "ACTUAL", "WRONG BY"))], rows)
    if not days.has_pattern:
        learned = f"after {days.slots / SLOTS:.1f} days"
        print_prose(f"It has no pattern {learned}: its forecast is no better than expecting no change, and mom does not use it.", 2)
        return
    wrong = f"The recent error of its one-hour forecasts is {format_kib(days.error)}"
    print_prose(f"{wrong}; the error of expecting no change is {format_kib(days.now_error)}.", 2)
    if days.weight < 1:
        why = "this day differs from earlier days" if days.weight < LEAST_WEIGHT else "a recent day was unusual"
        print_prose(f"Its forecast now has a weight of {days.weight:.0%}: {why}.", 2)


def _today(guest: KnownGuest) -> tuple[int, int]:
    # Present slot, and first slot of this day.
    now = guest.days.calendar.index(time.time())
    return now, now - now % SLOTS


def _hourly(values: Sequence[float | None]) -> list[float | None]:
    hours = (_without_unknown(values[place : place + HOUR_SLOTS]) for place in range(0, SLOTS, HOUR_SLOTS))
    return [sum(hour) / len(hour) if hour else None for hour in hours]


def _without_unknown(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
