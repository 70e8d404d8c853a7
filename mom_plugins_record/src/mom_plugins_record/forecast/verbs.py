"""Subcommand `mom forecast`: shows learned days, and learns them from recordings."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from mom_core import Guest, MomError, format_kib, load_config, printable
from mom_daemon import (
    ExistingPath,
    KeptPath,
    NoSuchGuest,
    TableColumn,
    config_option,
    find_guest,
    json_option,
    print_prose,
    print_table,
    progress,
    recording,
)
from mom_daemon.top import short, sparkline
from mom_plugins_record.forecast.curve import LEAST_WEIGHT
from mom_plugins_record.forecast.files import days_in, leave
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.plugin import configured_days
from mom_plugins_record.forecast.slots import HOURS, SLOTS, Calendar

BARS: Final = 48
"""One bar for each half hour: these and the names fit in 80 columns."""

PROGRESS_EVERY: Final = 500
"""Cycles between progress reports."""

NOBODY: Final = "No days of guests are known."


@dataclass(frozen=True, slots=True)
class Days:
    """Learned days of a guest. Sizes in KiB; None if unknown.

    A day has `slots` slots of `slot_seconds` in local time, a week `week_days` days. `expected` and `most` are for each slot of the week.

    :param error_kib: recent median error of the forecast for the next four slots
    :param surprise_kib: use above the forecast, 95th percentile
    :param errors_by_hour: `error_kib` for 24 parts of the day
    :param now_error_kib: error of the forecast "stays as now"
    :param growth: growth in each slot of a day, in KiB/s
    :param came: last use in each slot of a day
    :param has_pattern: the forecast is better than "stays as now"
    :param weight: weight of the forecast now, 0 to 1
    """

    id: str
    name: str
    slot_seconds: float
    slots: int
    week_days: int
    expected: Sequence[float | None]
    most: Sequence[float | None]
    error_kib: float | None = None
    surprise_kib: float | None = None
    errors_by_hour: Sequence[float | None] = ()
    now_error_kib: float | None = None
    growth: Sequence[float | None] = ()
    came: Sequence[float | None] = ()
    learned_slots: int = 0
    has_pattern: bool = False
    weight: float = 0.0


def days_of(guest: KnownGuest) -> Days:
    """Return a guest's learned days."""
    days, calendar = guest.days, guest.days.calendar
    monday = next(index for index in range(calendar.week_slots) if calendar.of_week(index) == 0)
    week = range(monday, monday + calendar.week_slots)
    expected = [days.expected(index) for index in week]
    most = [value + days.excess_of(index) for index, value in zip(week, expected, strict=True)]
    return Days(
        guest.id, guest.name, calendar.slot_seconds, calendar.week_slots // calendar.week_days, calendar.week_days,
        _known(expected), _known(most), _known([days.error])[0], days.margin if days.wrong[3] else None, _known(days.hour_errors),
        _known([days.now_error])[0], _known(days.growth), _known(days.last), days.slots, days.has_pattern, round(days.weight, 3),
    )  # fmt: skip


def _known(values: Iterable[float]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else round(value, 1) for value in values)


@click.group("forecast", context_settings={"help_option_names": ["-h", "--help"]})
def forecast() -> None:
    """Show what guests usually use by time of day and week, and learn it from recordings."""


@forecast.command("show")
@click.argument("guest", required=False)
@click.option("--file", type=KeptPath(), help="File or folder of learned days.  [default: those of this host's mom]")
@config_option
@json_option
def show_command(guest: str | None, file: Path | None, config_path: str | None, as_json: bool) -> None:
    """Show guests' patterns, their usual use at this time, and the errors of their forecasts. For one GUEST (name or id), show its day:
    expected use, actual use, and the error.

    Exit code 1 if no days are known, or no days of that guest.
    """
    found = days_in(file) if file is not None else days_in(*configured_days(load_config(config_path)))
    all_days = {identity: days_of(guest) for identity, guest in found.known.items() if guest.days.slots}
    if guest is not None:
        days = _find_days(all_days, guest)
        click.echo(json.dumps(asdict(days), indent=2)) if as_json else _print_guest(days)
        return
    if as_json:
        click.echo(json.dumps([asdict(days) for days in all_days.values()], indent=2))
    elif all_days:
        _print_all(sorted(all_days.values(), key=lambda days: (days.name, days.id)))
    else:
        print_prose(NOBODY, 2)
    if not all_days:
        raise click.exceptions.Exit(1)


@forecast.command("learn")
@click.argument("recordings", nargs=-1, required=True, type=ExistingPath())
@config_option
def learn_command(recordings: Sequence[Path], config_path: str | None) -> None:
    """Learn guests' days from RECORDINGS, in the order of their time, so that mom need not observe these days first. Forecasts and `mom
    advise --risk` use them. `mom advise --risk` needs two weeks.

    Within a minute, a running mom merges the days of guests that it knows less well. A stopped mom merges them when it starts.
    """
    folder, calendar = configured_days(load_config(config_path))
    days = HostDays(calendar, calendar.slot_seconds)
    with progress(shown=True) as show:
        for path in recordings:
            _learn(days, path, show)
    learned_guests = [item for item in days.known.values() if item.days.slots]
    if not learned_guests:
        raise MomError("nothing could be learned", hint="a recording must cover at least one slot, which is 15 minutes of a day")
    leave(folder, days)
    patterns = sum(item.days.has_pattern for item in learned_guests)
    most = max(item.days.slots for item in learned_guests) / SLOTS
    learned = f"Learned {most:.1f} days of {len(learned_guests)} guests, of which {patterns} have a pattern."
    print_prose(f"{learned} A running mom merges them within a minute.", 2)


def _learn(days: HostDays, path: Path, show: Callable[[str], None]) -> None:
    for number, past in enumerate(recording(None, path).cycles(-math.inf, math.inf)):
        days.see(past.report.snapshot)
        if number % PROGRESS_EVERY == 0:
            show(f"{path}: {time.strftime('%Y-%m-%d %H:%M', time.localtime(past.report.time))}")


def _find_days(all_days: Mapping[str, Days], name: str) -> Days:
    try:
        return all_days[find_guest({identity: Guest(identity, days.name) for identity, days in all_days.items()}, name).id]
    except NoSuchGuest as error:
        if any(days.name == name for days in all_days.values()):  # several guests had the name, perhaps at different times
            raise
        hint = error.hint if error.hint.startswith("did you") else "`mom forecast show` lists guests with known days"
        raise MomError(f"no days of guest {printable(name)} are known", hint=hint) from None


def _print_all(all_days: Sequence[Days]) -> None:
    rows = []
    for days in all_days:
        slot = _slot_now(days)
        today = _of_today(days.expected, days, slot)
        most = max(_without_unknown(_of_today(days.most, days, slot)), default=None)
        pattern = "-" if not days.has_pattern else "yes" if days.weight >= LEAST_WEIGHT else "differs"
        rows.append([
            printable(days.name), pattern, short(today[slot % days.slots]), short(most), short(days.error_kib), short(days.now_error_kib),
            f"{days.learned_slots / days.slots:.1f}",
        ])  # fmt: skip
    print_table(
        ["GUEST", "PATTERN", TableColumn("USUAL NOW"), TableColumn("MOST TODAY"), TableColumn("WRONG BY"), TableColumn("AS NOW", 1),
         TableColumn("DAYS", 2)],
        rows,
    )  # fmt: skip
    patterned = [days for days in all_days if days.has_pattern]
    if patterned:
        errors = [_without_unknown([days.errors_by_hour[hour] for days in patterned]) for hour in range(HOURS)]
        by_hour = [sum(values) if values else None for values in errors]
        click.echo()
        click.echo(f"{'wrong by':10}{sparkline(_halved(by_hour))}  {_range(by_hour)}, all with a pattern")
        click.echo(f"{'':10}{_axis()}")


def _print_guest(days: Days) -> None:
    learned = days.learned_slots / days.slots
    click.echo(click.style(printable(days.name), bold=True))
    slot = _slot_now(days)
    expected, came = _halves(_of_today(days.expected, days, slot)), _halves(days.came)
    for label, values, other in (("usual", expected, came), ("actual", came, expected)):
        click.echo(f"{label:10}{sparkline(values, others=other):{BARS}}  {_range(values)}")
    click.echo(f"{'wrong by':10}{sparkline(_halved(days.errors_by_hour)):{BARS}}  {_range(days.errors_by_hour)}")
    click.echo(f"{'':10}{_axis()}")
    if not days.has_pattern:
        print_prose(
            f"It has no pattern after {learned:.1f} days: its forecast is no better than expecting no change, and mom does not use it.", 2
        )
        return
    error, now = days.error_kib, days.now_error_kib
    if error is not None and now is not None:
        wrong = f"The recent error of its one-hour forecasts is {format_kib(error)}"
        print_prose(f"{wrong}; of forecasts of no change, {format_kib(now)}.", 2)
    if days.weight < 1:
        why = "this day differs from earlier days" if days.weight < LEAST_WEIGHT else "a recent day differed"
        print_prose(f"Its forecast now has a weight of {days.weight:.0%}: {why}.", 2)


def _slot_now(days: Days) -> int:
    calendar = Calendar(days.slot_seconds * days.slots, days.week_days)
    return calendar.of_week(calendar.index(time.time()))


def _of_today(week: Sequence[float | None], days: Days, slot: int) -> Sequence[float | None]:
    begins = slot - slot % days.slots
    return week[begins : begins + days.slots]


def _halves(values: Sequence[float | None]) -> list[float | None]:
    pairs = [_without_unknown(values[place : place + 2]) for place in range(0, len(values), 2)]
    return [sum(pair) / len(pair) if pair else None for pair in pairs]


def _halved(hours: Sequence[float | None]) -> list[float | None]:
    return [value for value in hours for _ in range(BARS // HOURS)]


def _without_unknown(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _range(values: Sequence[float | None]) -> str:
    known_values = _without_unknown(values)
    return f"{short(min(known_values))} to {short(max(known_values))}" if known_values else "unknown"


def _axis() -> str:
    return "".join(f"{hour:<6}" for hour in range(0, HOURS, 3)).rstrip()
