"""Guests with days, which last minutes: what becomes of their rise in the morning while memory is taken, with and without forecasts.

They live two days unsqueezed first, while mom only watches and records. Each manager then has its own third and fourth day, of which the
latter differs: from the evening before, so much memory is taken and kept. With several amounts, each has a usual morning of its own, and
the day that differs comes after them. mom's plugin `forecast` has learned from the recording what an operator's would have by then, and
its `day` is as long as that of the guests.
"""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from guest_hosts import LibvirtHost
from guests_told import Listener, work
from managers import MANAGERS, Manager, Running, Where, at_work, mom_config, mom_with
from merit import Moment
from mixes import BEGIN_HOUR, HOURS, OTHER_DAY_HOURS, Mix
from one_run import Squeeze, described, mean, rounded, still_below

UNSQUEEZED, FORECAST = "unsqueezed", "mom-forecast"

TITLES: Final = {UNSQUEEZED: "unsqueezed", "nothing": "no manager", "mom": "mom", FORECAST: "mom with forecast"}
"""What can be run: the first days, and who manages the days that follow."""

AHEAD_SECONDS: Final = 15.0
"""How far forecasts look ahead: a quarter of an hour of a day of 24 minutes, and at least as many seconds as making room takes."""

FIRST_SQUEEZED: Final = 3
"""The number of the first day of which the morning comes while memory is taken."""

LONGEST_INTERVAL, DAY_INTERVALS = 5.0, 240.0
"""Seconds; of shorter days there are so many intervals, so that two of them or more are in each slot that is learned. For every mom."""

EVENING_HOUR: Final = 19.0
"""When the amount of the next morning begins to be taken: desktops have gone, and jobs have not come yet."""

LAST: Final = "end of the last day"
"""How a run ends in which nothing else has."""

RISE_HOURS: Final = 2.0
"""So long after the hour at which it begins a rise is looked at."""


@dataclass(frozen=True)
class Course:
    """When things happen, in seconds since the epoch.

    :param day: how long a day is, in seconds
    :param begin: when guests begin, at `BEGIN_HOUR`
    :param mornings: how many are as usual; the day after them differs
    """

    day: int
    begin: int
    mornings: int = 1

    def at(self, hours: float) -> float:
        """So many hours of such a day after the beginning."""
        return self.begin + hours * self.day / HOURS

    def first(self, hour: float) -> float:
        """When it is that hour for the first time after the beginning."""
        return self.at((hour - BEGIN_HOUR) % HOURS)

    def midnight(self, morning: int) -> float:
        """When the day of that morning begins; the first is number 0."""
        return self.at(OTHER_DAY_HOURS + HOURS * (morning - 1))

    def evening(self, morning: int) -> float:
        """When the amount begins to be taken that is taken in that morning; the first one's is from the beginning on."""
        return self.first(EVENING_HOUR) + morning * self.day if morning else self.begin

    def told(self, now: float) -> str:
        """The day and the hour: `day 3, 08:30`. Guests begin on the second."""
        hours = 2 * HOURS + BEGIN_HOUR + (now - self.begin) * HOURS / self.day
        return f"day {int(hours // HOURS)}, {int(hours % HOURS):02d}:{int(hours * 60 % 60):02d}"


def begins(earliest: float, day: int, offset: float) -> int:
    """The first second after the earliest at which it is `BEGIN_HOUR` of a day of that length, as mom counts days: by the local clock, from
    the epoch on. So every run has it at the same time of the day.

    :param offset: by how many seconds the local clock is ahead of UTC
    """
    since_midnight = day * BEGIN_HOUR // HOURS
    midnight = math.ceil((earliest + offset - since_midnight) / day) * day
    return round(midnight + since_midnight - offset)


# --- managers ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """What the unsqueezed days have left: a recording of guests whose UUIDs follow from `identities`."""

    folder: Path

    @property
    def recording(self) -> Path:
        """The folder of mom's recording."""
        return self.folder / "recording"

    @property
    def identities(self) -> UUID:
        """The same for all runs that follow. Raises `FileNotFoundError` before the first."""
        return UUID((self.folder / "identities").read_text().strip())

    def anew(self) -> None:
        """Guests of which nothing is known yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "identities").write_text(f"{uuid4()}\n")


def of_days(day: int, count: int, results: Path) -> Learned:
    """Where it is kept what so many guests with days of that length have left."""
    return Learned(results / "days" / f"{day}s-{count}-guests")


def interval(day: int) -> float:
    """Of mom, in seconds."""
    return min(LONGEST_INTERVAL, day / DAY_INTERVALS)


def manager(name: str, day: int, learned: Learned, ahead: float = AHEAD_SECONDS) -> Manager:
    """Who manages guests whose days are that long.

    :param ahead: how many seconds forecasts look ahead
    """
    if name == "nothing":
        return MANAGERS[name]

    def command(where: Where) -> list[str]:
        config = {**mom_config(where), "interval": f"{interval(day)}s"}
        plugins = config["plugins"]
        assert isinstance(plugins, dict)
        if name == UNSQUEEZED:
            config |= {"mode": "observe", "plugins": {**plugins, "record": {"path": str(learned.recording)}}}
        elif name == FORECAST:
            forecast = {"day": f"{day}s", "ahead": f"{min(ahead, day)}s"}
            config |= {"plugins": {**plugins, "forecast": forecast}}
        started = mom_with(where, config)
        if name == FORECAST:
            mom, _, *options = started
            with ((where.logs or where.folder) / "manager.log").open("ab") as log:
                learn = [mom, "forecast", "learn", str(learned.recording), *options]
                subprocess.run(learn, check=True, stdout=log, stderr=log)
        return started

    return Manager(name, TITLES[name], command)


# --- what is measured ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rise:
    """What was seen of guests whose bursts begin at one moment: of how many they were `grown`, of how many `wanted`; how long each took
    (s), and when the last was there (s after the moment, to a second); ms of a slot in 99 of 100, and the ratio of slots in time."""

    wanted: int
    seconds: Sequence[float]
    last: float | None
    p99_ms: float | None
    share: float

    @property
    def grown(self) -> int:
        """Bursts."""
        return len(self.seconds)


def rise(listeners: Sequence[Listener], begin: float, end: float) -> Rise:
    """What these guests did between two moments of the monotonic clock, at the first of which their bursts begin."""
    done = work(listeners, begin, end)
    pairs = (pair for one in listeners for pair in itertools.pairwise(one.heard))
    times = [now.at for before, now in pairs if now.bursts > before.bursts and begin < now.at <= end]
    return Rise(len(listeners), done.bursts, max(times) - begin if times else None, done.p99_ms, done.share)


def all_rises(rises: Sequence[Rise]) -> Rise:
    """Those of several mornings together."""
    lasts = [one.last for one in rises if one.last is not None]
    slots = [one.p99_ms for one in rises if one.p99_ms is not None]
    return Rise(
        sum(one.wanted for one in rises),
        [seconds for one in rises for seconds in one.seconds],
        max(lasts, default=None),
        max(slots, default=None),
        min(one.share for one in rises),
    )


def as_json(seen: Rise) -> dict[str, Any]:
    """Figures of a rise."""
    return {
        "wanted": seen.wanted,
        "grown": seen.grown,
        "mean": mean(seen.seconds),
        "slowest": max(seen.seconds, default=None),
        "last": rounded(seen.last),
        "p99_ms": rounded(seen.p99_ms),
        "work": round(seen.share, 4),
    }


@dataclass(frozen=True)
class Clocks:
    """Both clocks of this host, read at one moment."""

    epoch: float
    monotonic: float

    @classmethod
    def now(cls) -> Clocks:
        """As they are."""
        return cls(time.time(), time.monotonic())

    def as_monotonic(self, epoch: float) -> float:
        """What the monotonic clock says at that second since the epoch."""
        return self.monotonic + epoch - self.epoch


def morning(
    squeeze: Squeeze, course: Course, number: int, clocks: Clocks, until: float, said: Mapping[float, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Figures of one rise; None where the run has ended before it was over.

    :param number: of the morning, from 0 on; the last one differs
    :param until: when the run has ended, in seconds since the epoch
    :param said: what mom says of the host, by the time of the moment
    """
    differs = number == course.mornings
    listeners, hour = risers(squeeze.mix, squeeze.listeners, other=differs)
    begins_at, while_rising = course.midnight(number) + hour * course.day / HOURS, RISE_HOURS * course.day / HOURS
    if until < begins_at + while_rising:
        return None
    begin = clocks.as_monotonic(begins_at)
    end = begin + while_rising
    seen = [one for one in squeeze.trace if begin <= one.time + squeeze.began <= end]
    if not seen:
        return None
    before = [fields for at, fields in said.items() if begin - while_rising <= at + squeeze.began <= begin]
    day_begins = squeeze.began if number == 0 else clocks.as_monotonic(course.midnight(number))
    rises = [rise_kib for fields in before if (rise_kib := fields.get("host_rise_expected")) is not None]
    return {
        "day": FIRST_SQUEEZED + number,
        "differs": differs,
        **as_json(rise(listeners, begin, end)),
        "taken": round(statistics.median(one.taken for one in seen)),
        "available_least": round(min(one.available for one in seen)),
        "kills": squeeze.work(day_begins, clocks.as_monotonic(min(until, course.midnight(number + 1)))).kills,
        "patterns": max((fields.get("guests_forecast") or 0 for fields in before), default=None),
        "rise_expected": round(max(rises) / 1024) if rises else None,
    }


def risers(mix: Mix, listeners: Mapping[str, Listener], *, other: bool) -> tuple[Sequence[Listener], int]:
    """The guests that come together in the morning, and the hour at which they do.

    :param other: on the day that differs
    """
    groups = {name: group for name, group in mix.guests.items() if group.other_hour is not None and group.hour is not None}
    (hour,) = {group.other_hour if other else group.hour for group in groups.values()}
    assert hour is not None
    return [listeners[member.name] for member in mix.members() if member.kind in groups], hour


# --- runs ----------------------------------------------------------------------------------------------------------------------------


def run(
    name: str,
    mix: Mix,
    amounts: Sequence[int],
    host: LibvirtHost,
    folder: Path,
    learned: Learned,
    told: Callable[[str], None],
    ahead: float = AHEAD_SECONDS,
) -> tuple[dict[str, Any], Sequence[Moment]]:
    """The two days before, or those from the third on under that manager: what came of it, as JSON, and the trace.

    :param amounts: MiB that are taken, of each usual morning, in their order; the last of them on the day that differs, too
    :param ahead: how many seconds forecasts look ahead
    """
    mix = mix.with_mornings(len(amounts))
    if name == UNSQUEEZED:
        learned.anew()
    host.identities = learned.identities
    squeeze = Squeeze(mix.with_days_alike() if name == UNSQUEEZED else mix, host, folder)
    try:
        told(f"{name}: starting {mix.count} guests; they begin when it is {BEGIN_HOUR}:00 of their day")
        begin = squeeze.start(lambda earliest: begins(earliest, mix.day, time.localtime(earliest).tm_gmtoff))
        course = Course(mix.day, begin, len(amounts))
        who = manager(name, mix.day, learned, ahead)
        result = _unsqueezed(squeeze, course, mix, who) if name == UNSQUEEZED else _squeezed(squeeze, course, amounts, who, told)
    finally:
        squeeze.destroy()
    kept = {"manager": name, "day": mix.day, "guests": mix.count, "sold": mix.sold, "available": mix.protocol.available, "ahead": ahead}
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {**kept, **result, "when": when, "host": described()}, squeeze.trace


def _unsqueezed(squeeze: Squeeze, course: Course, mix: Mix, who: Manager) -> dict[str, Any]:
    """Two days in which nothing is taken, and mom only watches."""
    with at_work(who, Where(squeeze.host, squeeze.folder)) as running:
        squeeze.wait(mix.protocol.reference)
        _still_there(running)
    clocks = Clocks.now()
    listeners, hour = risers(mix, squeeze.listeners, other=False)
    seen = []
    for days in range(mix.protocol.reference // mix.day):
        begin = clocks.as_monotonic(course.first(hour)) + days * mix.day
        seen.append(rise(listeners, begin, begin + RISE_HOURS * mix.day / HOURS))
    return {"ended": "end of the second day", "rise": as_json(all_rises(seen))}


def _squeezed(squeeze: Squeeze, course: Course, amounts: Sequence[int], who: Manager, told: Callable[[str], None]) -> dict[str, Any]:
    """From the evening of the second day on, memory is taken."""
    protocol = squeeze.mix.protocol
    squeeze.wait(protocol.settle)
    clocks, end = Clocks.now(), course.begin + protocol.seconds
    steps = [(clocks.as_monotonic(course.evening(number)), mib) for number, mib in enumerate(amounts)]
    said: dict[float, Mapping[str, Any]] = {}
    with at_work(who, Where(squeeze.host, squeeze.folder)) as running, squeeze.ramp(steps=steps):
        due, ended = squeeze.began, LAST
        while time.time() < end:
            due += 1.0
            time.sleep(max(0.0, due - time.monotonic()))
            moment = squeeze.look(running.says)
            said[moment.time] = running.status().get("host", {}).get("fields", {})
            if len(squeeze.trace) % 20 == 0:
                told(_line(course, moment, said[moment.time]))
            if (given := _gave(squeeze, moment)) is not None:
                ended = given
                break
            _still_there(running)
        until, cpu = time.time(), running.cpu_seconds
        seen = [morning(squeeze, course, number, clocks, until, said) for number in range(course.mornings + 1)]
        kills = squeeze.work(squeeze.began, time.monotonic()).kills
    told(f"  {ended}, on {course.told(until)}")
    cpu_percent = round(100 * cpu / max(1.0, until - clocks.epoch), 2)
    mornings = [{"wanted_mib": amount, **one} for amount, one in zip([*amounts, amounts[-1]], seen, strict=True) if one is not None]
    figures = {
        "amounts": list(amounts),
        "taken_at_end": round(squeeze.trace[-1].taken),
        "ended": ended,
        "at": course.told(until),
        "kills": kills,
        "manager_cpu_percent": cpu_percent,
    }
    return {**figures, "mornings": mornings}


def _gave(squeeze: Squeeze, moment: Moment) -> str | None:
    """What has come to its end, if anything has."""
    if squeeze.lost():
        return "guest lost"
    if squeeze.ballast is None or squeeze.ballast.poll() is not None:
        return "host exhausted"
    floor = squeeze.mix.protocol.floor
    return "host exhausted" if moment.available < floor and still_below(floor) else None


def _still_there(running: Running) -> None:
    if running.ended:
        log = (running.where.logs or running.where.folder) / "manager.log"
        raise RuntimeError(f"{running.manager.title} has ended: {log.read_text()[-2000:]}")


def _line(course: Course, moment: Moment, fields: Mapping[str, Any]) -> str:
    expected = fields.get("host_rise_expected")
    rises = "" if expected is None else f", {expected // 1024} MiB more expected of {fields.get('guests_forecast')} guests"
    return (
        f"  {course.told(time.time())}: taken {moment.taken:6.0f}, available {moment.available:5.0f}, guests {moment.guests:6.0f} MiB, "
        f"killed {moment.kills} {moment.says}{rises}"
    )
