"""Asks a running mom for what `mom top` shows, in two threads: one hears of each cycle, one asks for what belongs to it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

from mom_core import MomError, Scope, printable
from mom_plugins_http.client import ApiRefusedError, Client, UnixConnection
from mom_plugins_http.top.picture import (
    FIELDS,
    Drill,
    Happening,
    Json,
    News,
    Picture,
    happening_of,
    policy_news,
    reservation_news,
    row_of,
)

ANSWER_SECONDS: Final = 5.0
"""An answer comes within hundredths of a second; mom that takes longer hangs."""

SILENCE_SECONDS: Final = 40.0
"""Without cycles there is a sign of life every 15 s."""

AGAIN_SECONDS: Final = 1.0
"""Between two attempts to reach a mom that is not there."""

KEPT_HAPPENINGS: Final = 1000

PAST_CYCLES: Final = 240
"""Of a guest's history: more than a terminal has columns."""

_PAGE: Final = 1000
_MOST_GUESTS: Final = 20_000
_LARGEST_LINE: Final = 16 << 20


class Feed:
    """What is known of a running mom, and how it is to be reached. `changed` is called, from other threads, when there is news.

    :param refresh: seconds between two pictures at least, however many cycles there are
    """

    def __init__(self, client: Client, changed: Callable[[], None], refresh: float = 1.0) -> None:
        self._client = client
        self._changed = changed
        self._refresh = refresh
        self._news = threading.Condition()
        self._event: Json | None = None
        self._wanted: str | None = None
        self._wanted_is_new = False
        self._ended = False
        self._connection: http.client.HTTPConnection | None = None
        self._last: dict[str, Happening] = {}
        self._units: Mapping[str, str] = {}
        self._fields: Sequence[str] = ()
        self._known_until = -1
        self.picture: Picture | None = None
        """The newest; each replaces the one before as a whole."""
        self.drill: Drill | None = None
        self.happenings: deque[Happening | News] = deque(maxlen=KEPT_HAPPENINGS)
        """The newest last."""
        self.left_out = 0
        """Outcomes of busy cycles of which mom did not tell."""
        self.trouble: tuple[str, str] | None = ("mom is being asked", "")
        """What is wrong, and what to do; None while all is well."""
        self.lost_at: float | None = None
        """Since when mom has not been reached, in monotonic seconds."""
        self.failed: BaseException | None = None
        """What ended a thread: a mistake of ours."""
        self._threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in (self._hear, self._ask)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads."""
        with self._news:
            self._ended = True
            self._news.notify_all()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.close()
        for thread in self._threads:
            thread.join(0.2)

    def want(self, guest: str | None) -> None:
        """All about this guest from now on; None: about none."""
        with self._news:
            if guest != self._wanted:
                self._wanted, self._wanted_is_new, self.drill = guest, guest is not None, None
                self._news.notify_all()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  # it is raised where the terminal is put in order first
            self.failed = error
            self._changed()

    # --- hearing of cycles -----------------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._ended:
            try:
                self._units = self._control_units()
                self._fields = shown_fields(self._client)
                self._remember()
                for name, event in self._events():
                    if name != b"cycle":
                        self._tell(news_of(name, event, time.time()))
                        continue
                    self._note(event)
                    with self._news:
                        self._event = event
                        self._news.notify_all()
                raise MomError("mom has ended the connection", hint="it stops, or is reloaded; it is asked again every second")
            except MomError as error:
                self._lose(error)
            with self._news:
                if not self._ended:
                    self._news.wait(AGAIN_SECONDS)

    def _lose(self, error: MomError) -> None:
        if self.lost_at is None:
            self.lost_at = time.monotonic()
        self.trouble = (error.message, error.hint)
        self._changed()

    def _control_units(self) -> dict[str, str]:
        return {one["name"]: one["unit"] for one in self._client.get("/v1/controls?limit=1000")[0]["items"]}

    def _remember(self) -> None:
        """What was done before this began to look, or while mom was not reached."""
        items = self._client.get(f"/v1/recent-outcomes?limit={KEPT_HAPPENINGS}")[0]["items"]
        self.happenings.clear()
        past = self._past_news()
        for item in reversed(items):
            when = float(item["time"])
            while past and past[0].time < when:
                self.happenings.append(past.popleft())
            self._keep(when, item)
        self.happenings.extend(past)
        self._known_until = items[0]["cycle"] if items else -1

    def _past_news(self) -> deque[News]:
        """The oldest first. Of a reservation it is known when it was made, and how it stands now."""
        found: list[News] = []
        with suppress(ApiRefusedError):  # nothing that is enabled has policies that change
            found += map(policy_news, self._client.get("/v1/policy-history")[0]["items"])
        with suppress(ApiRefusedError):  # nor reservations
            kept = self._client.get("/v1/reservations")[0]
            found += [reservation_news(float(one["created_at"]), one) for one in (*kept["items"], *kept["ended"])]
        return deque(sorted(found, key=lambda one: one.time))

    def _tell(self, news: Sequence[News]) -> None:
        for one in news:
            if one not in self.happenings:  # asked for just before it was told
                self.happenings.append(one)

    def _keep(self, when: float, item: Json) -> None:
        happening = happening_of(when, item, self._units)
        self.happenings.append(happening)
        self._last[item["entity"]["id"]] = happening

    def _events(self) -> Iterator[tuple[bytes, Json]]:
        """The name and the content of each event: a cycle as it ends, and before it what else has changed. Raises `MomError`."""
        connection = self._connection = UnixConnection(self._client.path, SILENCE_SECONDS)
        try:
            connection.request("GET", "/v1/events")
            response = connection.getresponse()
            if response.status != 200:
                self._client.get("/v1/status")  # which says why, in words
                raise MomError(f"mom answers with {response.status}", hint="too many may be watching; see mom's log")
            name = b""
            while not self._ended:
                line = response.readline(_LARGEST_LINE)
                if not line:
                    return
                if line.startswith(b"event:"):
                    name = line[6:].strip()
                elif line.startswith(b"data:"):
                    yield name, json.loads(line[5:])
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # http.client loses its file when it is closed
            raise MomError(
                f"the connection to mom has ended: {error or type(error).__name__}", hint="it is asked again every second"
            ) from None
        finally:
            connection.close()

    def _note(self, event: Json) -> None:
        if event["cycle"]["number"] <= self._known_until:
            return
        for item in event["outcomes"]:
            self._keep(float(event["cycle"]["time"]), item)
        self.left_out += max(0, int(event["changes"]) - len(event["outcomes"]))

    # --- asking for what belongs to them -----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        drawn = 0.0
        while True:
            with self._news:
                while self._event is None and not self._wanted_is_new and not self._ended:
                    self._news.wait()
                if self._ended:
                    return
                wanted, hurried, self._wanted_is_new = self._wanted, self._wanted_is_new, False
            try:
                if wanted is not None:
                    self._show(self._all_about(wanted))
                if hurried:
                    continue
                self._pause(drawn + self._refresh - time.monotonic())
                with self._news:
                    event, self._event = self._event, None
                drawn = time.monotonic()
                if event is not None:
                    self.picture = self._picture(event)
                    self.trouble = self.lost_at = None
                    self._changed()
            except ApiRefusedError as error:
                if error.status != 400:
                    self._lose(error)
                    continue
                with suppress(MomError):  # other plugins are enabled than before
                    self._fields = shown_fields(self._client)
            except MomError as error:
                self._lose(error)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._news:
            while not self._ended and not self._wanted_is_new and (left := until - time.monotonic()) > 0:
                self._news.wait(left)

    def _picture(self, event: Json) -> Picture:
        status = self._client.get("/v1/status")[0]
        name = "" if self.picture is None else self.picture.host_name
        name = name or str(self._client.get("/v1/host")[0]["name"])
        items = list(guests(self._client, self._fields))
        if event["mode"] == "observe" and event["changes"] > len(event["outcomes"]):  # it told of the first hundred only
            when = float(event["cycle"]["time"])
            for item in self._client.get("/v1/outcomes?limit=1000")[0]["items"]:
                self._last[item["entity"]["id"]] = happening_of(when, item, self._units)
        here = {item["id"] for item in items}
        for gone in self._last.keys() - here:
            self._last.pop(gone, None)
        rows = [row_of(item, self._last.get(item["id"])) for item in items]
        return Picture(event, status, printable(name), rows, self._client.get("/v1/plugins")[0]["items"])

    def _show(self, drill: Drill) -> None:
        with self._news:
            if drill.id == self._wanted:
                self.drill = drill
        self._changed()

    def _all_about(self, guest: str) -> Drill:
        path = f"/v1/guests/{quote(guest, safe='')}"
        try:
            found = self._client.get(path)[0]
            past = self._client.get(f"{path}/history?limit={PAST_CYCLES}")[0]["items"]
            explained = self._client.get(f"{path}/explanation")[0]
        except ApiRefusedError as error:
            return Drill(guest, trouble=error.message)
        return Drill(guest, explained, found, past[::-1])


def news_of(name: bytes, event: Json, now: float) -> list[News]:
    """What an event that is no cycle tells; those of trials say what the policies' own history says, too."""
    if name == b"policies":
        return [policy_news(one) for one in event["items"]]
    return [reservation_news(now, one) for one in event["items"]] if name == b"reservations" else []


def shown_fields(client: Client) -> Sequence[str]:
    """What is shown of guests, as far as a plugin of this mom declares it. Raises `MomError`."""
    declared = {one["name"] for one in client.get("/v1/fields?limit=1000")[0]["items"] if one["scope"] == Scope.GUEST}
    return [name for name in FIELDS if name in declared]


def guests(client: Client, fields: Sequence[str]) -> Iterator[Json]:
    """All guests with these fields, in as few pages as can be. Raises `MomError`."""
    query: dict[str, Any] = {"limit": _PAGE, "fields": ",".join(fields)}
    for _ in range(_MOST_GUESTS // _PAGE):
        page = client.get(f"/v1/guests?{urlencode(query)}")[0]
        yield from page["items"]
        if page["next"] is None:
            return
        query["after"] = page["next"]


def picture_now(client: Client) -> Picture:
    """How it is now, asked once. Raises `MomError`."""
    status, host = client.get("/v1/status")[0], client.get("/v1/host")[0]
    units: dict[str, str] = {one["name"]: one["unit"] for one in client.get("/v1/controls?limit=1000")[0]["items"]}
    when = float(status["cycle"]["time"])
    outcomes = client.get("/v1/outcomes?limit=1000")[0]["items"]
    last = {item["entity"]["id"]: happening_of(when, item, units) for item in outcomes}
    problems = client.get("/v1/problems?limit=1000")[0]["items"]
    common = client.get("/v1/common-problems?limit=1000")[0]["items"]
    event = {
        "cycle": status["cycle"],
        "mode": status["mode"],
        "guests": status["guests"],
        "host": host["fields"],
        "verdict": status["verdict"],
        "changes": sum(count for name, count in status["outcomes"].items() if name != "unchanged"),
        "outcomes": outcomes,
        "problems": problems,
        "common_problems": common,
        "plugins": status["plugins"],
    }
    rows = [row_of(item, last.get(item["id"])) for item in guests(client, shown_fields(client))]
    return Picture(event, status, printable(str(host["name"])), rows, client.get("/v1/plugins")[0]["items"])
