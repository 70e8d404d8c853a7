"""The web page in a real Chromium, with a real mom: display, keys, and protection against other pages."""

import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from http_over_tcp import tcp_settings
from playwright.sync_api import Locator, Page, Route, expect
from watched_mom import DRAWN, MOM, Daemon, Start, Tunnel, client, put

from mom_core import Condition, Engine, Report, Severity, Value, Verdict, load_config
from mom_core.testing import snapshot
from mom_devkit import wait_until
from mom_plugins_http import HttpPlugin

Dig = Callable[[Path], Tunnel]
Visit = Callable[..., Page]

EVIL = "<img src=x onerror=\"document.title='taken over'\">"


def shot(page: Page, name: str) -> None:
    """Save a screenshot in the folder MOM_SCREENSHOTS, if it is set."""
    if folder := os.environ.get("MOM_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


expect.set_options(timeout=40_000)

REFUSED = "Failed to load resource"
"""Messages of browsers about answers other than 200, and about closed connections."""


# --- display ---------------------------------------------------------------------------------------------------------------------


def test_the_hosts_memory_is_drawn_and_read_out_by_keys(shared: Start, visit: Visit) -> None:
    page = visit(shared())
    expect(page.get_by_role("heading", name="mom on")).to_be_visible()
    legend = page.locator("figure").first.locator(".legend")
    for part in ("guests", "the host itself", "available", "should be free", "full below", "mom acted"):
        expect(legend).to_contain_text(part)
    areas = page.locator("figure").first.locator("polygon:not(.mark)")  # in several parts if a cycle was late
    wait_until(lambda: len(set(areas.evaluate_all("all => all.map(one => one.getAttribute('class'))"))) == 3, areas.count, 40)
    expect(page.locator("figure").first.locator("polygon.mark title").first).to_have_text(re.compile("shrunk|grown|KSM|read at"))
    chart = page.locator("svg.chart").first
    wait_until(lambda: page.evaluate(DRAWN) >= 5, "no more than four cycles are drawn", 40)
    chart.focus()
    page.keyboard.press("Home")
    expect(page.locator("figure p[aria-live]").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d: guests .* available .*"))
    chart.hover()
    expect(legend).to_contain_text(re.compile(r"\d\d:\d\d:\d\d"))
    number = page.locator("footer").inner_text()
    expect(page.locator("footer")).not_to_have_text(number)


WITH_ROOM = {"guests": 3, "host_memory": "64GiB", "more": "  sla: {}\n", "ksm": False}
"""Settings of a mom with idle guests and without KSM."""


def test_many_guests_are_sorted_found_and_opened_with_the_keyboard(daemon: Start, visit: Visit) -> None:
    mom = daemon(guests=300, interval="1s")
    page = visit(mom, color_scheme="dark")
    expect(page.locator("footer")).to_contain_text("live")
    page.keyboard.press("2")
    expect(page.get_by_role("status").get_by_text("300 guests")).to_be_visible()
    assert page.locator(".guests tbody tr").count() < 90, "only rows that can be seen are made"
    assert page.locator(".guests table").get_attribute("aria-rowcount") == "301"
    expect(page.locator(".guests svg.spark path").first).to_have_attribute("d", re.compile("^M"))
    page.get_by_role("button", name="Used").click()
    expect(page.get_by_role("columnheader", name="Used")).to_have_attribute("aria-sort", "descending")
    expect(page.locator(".guests tbody tr td:nth-child(4)").first).to_contain_text("GiB")
    page.locator(".guests").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    expect(page.locator('.guests tr[aria-rowindex="301"]')).to_be_attached()
    page.keyboard.press("/")
    page.keyboard.type("web-01")
    expect(page.get_by_role("status").get_by_text(re.compile("^[0-9]+ of 300 guests"))).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="web-01", exact=True)).to_be_focused()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").startswith("web-01")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="web-01")).to_be_visible()
    expect(page.locator("dl.told")).to_contain_text("It has")
    expect(page.locator("dl.told")).to_contain_text("guarantee")
    memory = page.locator("figure").first
    expect(memory.locator("polygon").first).to_be_attached()
    for part in ("used", "cache", "free", "ballooned", "in the host's swap", "most"):
        expect(memory.locator(".legend")).to_contain_text(re.compile(f"{part}: [0-9]"))
    page.keyboard.press("Escape")
    expect(page.get_by_label("Filter guests")).to_have_value("web-01")


def test_what_was_decided_for_a_guest_stands_on_the_axis_of_its_memory(daemon: Start, visit: Visit) -> None:
    mom = daemon(guests=40, host_memory="46GiB", interval="1s")
    page = visit(mom, "guests", height=700, reduced_motion="reduce")
    page.get_by_role("button", name="Used").click()
    with client(mom) as one:

        def given() -> list[str]:
            done = one.get("/v1/acts?limit=1000").json()["items"]
            return [act["first"][0]["id"] for act in done if act["control"] == "balloon_target" and act["status"] == "applied"]

        wait_until(lambda: len(given()) > 5)
        guest = max(set(given()), key=given().count)
    shot(page, "web-page-guests")
    page.evaluate("location.hash = '#/'")
    expect(page.locator("figure polygon").first).to_be_visible()
    shot(page, "web-page")
    page.evaluate(f"location.hash = '#/guest/{guest}'")
    memory = page.locator("figure").first
    mark = memory.locator("polygon.mark").first
    expect(mark).to_be_attached()
    assert re.match(r"(grown|shrunk).* → .*: ", mark.locator("title").text_content() or "")
    if folder := os.environ.get("MOM_SCREENSHOTS"):
        page.set_viewport_size({"width": 1280, "height": 1200})  # no part is below the last line
        memory.screenshot(path=f"{folder}/web-page-guest.png")


def test_where_there_are_no_guests_it_is_said_with_what_to_do(shared: Start, visit: Visit) -> None:
    page = visit(shared(guests=0), "guests")
    told = page.locator(".empty")
    expect(told.get_by_role("heading")).to_have_text("There are no guests on this host")
    expect(told.locator("pre")).to_have_text("mom doctor")
    expect(page.get_by_role("region", name="All guests")).to_be_hidden()


def test_memory_for_a_launch_is_asked_for_seen_and_given_up(shared: Start, visit: Visit) -> None:
    mom = shared(**WITH_ROOM)
    page = visit(mom, "launches", but=REFUSED)
    expect(page.locator("dl.tiles")).to_contain_text("Could be reserved")
    page.get_by_label("Memory", exact=True).fill("2GiB")
    page.get_by_label("for the guest").fill("new-*")
    page.get_by_role("button", name="Reserve").click()
    expect(page.locator("p.notice[role=status]")).to_contain_text("2.00 GiB reserved for new-*")
    row = page.get_by_role("row").filter(has_text="new-*")
    expect(row).to_contain_text("2.00 GiB")
    with client(mom) as one:
        assert [kept["name"] for kept in one.get("/v1/reservations").json()["items"]] == ["new-*"]
    row.get_by_role("button", name="Release").click()
    expect(page.locator("p.notice[role=status]")).to_contain_text("is released")
    expect(page.get_by_role("region", name="Reserved").get_by_text("new-*")).to_have_count(0)
    page.get_by_label("Memory", exact=True).fill("9000GiB")
    page.get_by_role("button", name="Reserve").click()
    expect(page.locator("p.notice.bad")).to_be_visible()
    page.get_by_label("of at most").fill("1GiB")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text(re.compile("✓ 1 guest of 1.00 GiB fit"))).to_be_visible()
    page.get_by_label("of at most").fill("900GiB")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text(re.compile("✗ 1 guest of 900 GiB do not fit"))).to_be_visible()


def test_past_days_and_what_mom_has_brought_today_are_shown_where_they_are_recorded(daemon: Start, visit: Visit) -> None:
    mom = daemon(more='  record: {reserve: "0"}\n', interval="200ms")
    page = visit(mom)
    now, lows, asked = time.time() // 60 * 60, range(20, 672, 34), list[str]()

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        known = {"mem_available": 4e7, "mem_really_available": 3e7, "swap_usage": 5.0, "psi_memory_some_avg10": 1.0, "killed_today": 3}
        items = [
            {"time": now + (n - 672) * 900, "seconds": 900, "mean": known, "most": known, "guest": None}
            | {"least": {**known, "mem_really_available": 1e6} if n in lows else known}
            for n in range(336, 672)
        ]
        route.fulfill(json={"items": items})

    page.route("**/v1/recorded?*", answer)
    chart = page.locator("svg.chart").first
    page.get_by_label("Show").select_option("a week")
    fullest = chart.locator("path.fullest")
    expect(fullest).to_be_attached()
    heights = [float(one.split()[1]) for one in re.split("[ML]", fullest.get_attribute("d") or "")[1:]]
    assert sum(one < min(heights) + 1 for one in heights) == len([n for n in lows if n >= 336]), "each low is drawn"
    expect(chart.locator("text").filter(has_text=re.compile(r"^\d+ [A-Z][a-z]+$"))).to_have_count(7)
    for name in ("Memory pressure", "Swap of the host", "Programs killed in guests"):
        expect(page.locator("figure").filter(has_text=name)).to_be_visible()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 600, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 50)
    page.mouse.up()
    back = page.get_by_role("button", name="Back to the whole period")
    expect(back).to_be_visible()
    expect(chart.locator("text").filter(has_text="00").first).to_be_attached()
    chart.press("+")
    wait_until(lambda: len(asked) == 3)
    spans = [int(one.partition("seconds=")[2].partition("&")[0]) for one in asked]
    assert spans[0] == 604_800
    assert spans[1] == pytest.approx(2 * spans[2], abs=2)
    chart.press("Escape")
    expect(back).to_be_hidden()
    page.get_by_label("Show").select_option("the last cycles")
    expect(fullest).to_have_count(0)
    tiles = page.locator(".tiles > div")
    expect(tiles.filter(has_text="Given back")).to_have_text(re.compile(r"Given back[\d.,]+( .iB)?today [\d.,]+( .iB)? on average"))


def test_without_a_recorder_the_page_says_what_to_enable(shared: Start, visit: Visit) -> None:
    page = visit(shared(), but=REFUSED)
    page.get_by_label("Show").select_option("a week")
    expect(page.get_by_text("no enabled plugin records; enable the record plugin")).to_be_visible()
    expect(page.locator("polygon").first).to_be_attached()


def test_focus_and_marked_text_stay_while_it_is_live(daemon: Start, visit: Visit) -> None:
    # A slowly growing load, so that sizes keep changing.
    mom = daemon(interval="300ms", sim="{guests: 60, host_memory: 40GiB, silent: 0.2, load: 32GiB, load_after: 3s, load_for: 1h}")
    page = visit(mom, "decisions", but=REFUSED)
    expect(page.locator("main tbody")).to_contain_text("read at the start")  # earlier events are listed, too
    # A row with a later row of the same guest above it. New decisions go into the later row, so this one does not change.
    link = page.wait_for_function("""() => {
      const links = [...document.querySelectorAll("main tbody a")], names = links.map((one) => one.textContent);
      return links.findLast((one, place) => names.indexOf(one.textContent) < place);
    }""").as_element()
    assert link is not None
    link.focus()
    name = link.inner_text()
    page.evaluate("""() => {
      const cell = document.activeElement.closest("tr").cells[2];
      getSelection().selectAllChildren(cell);
      window.marked = [document.activeElement, String(getSelection())];
    }""")
    before = page.locator("footer").inner_text()
    for _ in range(4):
        expect(page.locator("footer")).not_to_have_text(before)
        before = page.locator("footer").inner_text()
    same = "document.activeElement === window.marked[0] && String(getSelection()) === window.marked[1]"
    kept = page.evaluate(f"[document.activeElement.textContent, {same}]")
    assert kept == [name, True]


OVERSOLD = {"guests": 8, "host_memory": "8GiB", "more": '  sla: {}\nguests:\n  "*": {guarantee: 100%}\n'}
"""Settings of a mom with more promises than memory."""


def test_each_view_is_accessible_and_fits_a_narrow_window(shared: Start, visit: Visit, page_tools: Path) -> None:
    mom = shared(**OVERSOLD)
    page = visit(mom, but=REFUSED)
    expect(page.locator(".now .notice").first).to_be_visible()
    page.evaluate((page_tools / "axe-core/axe.min.js").read_text())
    found: dict[str, list[str]] = {}
    for view in ("", "guests", "guest/" + _first_guest(mom), "policies", "health", "decisions", "launches", "?"):
        if view == "?":
            page.keyboard.press("?")
        else:
            page.evaluate(f"location.hash = '#/{view}'")
        page.wait_for_timeout(500)
        schemes: tuple[tuple[Literal["dark", "light"], int], ...] = (("light", 1280), ("dark", 400))
        for scheme, width in schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colour transition is in progress
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(drawn, 100))))")
            result = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
            told = {f"{one['id']}": [node["html"][:200] for node in one["nodes"]] for one in result["violations"]}
            found |= {f"{view}, {scheme}, {width}: {name}": nodes for name, nodes in told.items()}
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, view
        if view == "guests":
            widths = "['.guests', '.guests thead tr'].map((one) => document.querySelector(one).offsetWidth)"
            box, row = page.evaluate(widths)
            assert row == pytest.approx(box, abs=20), "the table is as wide as the window, and names can be read"
            assert page.get_by_role("link", name="db-01", exact=True).evaluate("link => link.offsetWidth <= link.parentElement.clientWidth")
    assert found == {}


def _first_guest(mom: Daemon) -> str:
    with client(mom) as one:
        return str(one.get("/v1/guests").json()["items"][0]["id"])


@pytest.fixture
def mortal(shared: Start) -> Daemon:
    """mom that can be stopped and restarted."""
    return shared(guests=6)


def test_a_mom_that_goes_hangs_or_comes_back_is_told_of(mortal: Daemon, visit: Visit) -> None:
    page = visit(mortal, but=REFUSED)
    banner = page.locator("#banner")
    expect(page.locator("dl.tiles")).to_contain_text("Available")
    mortal.stop(signal.SIGKILL)
    expect(banner).to_contain_text("mom cannot be reached")
    mortal.start()
    expect(banner).to_be_hidden()
    assert mortal.process is not None
    mortal.process.send_signal(signal.SIGSTOP)
    expect(banner).to_contain_text("has not finished a cycle")
    mortal.process.send_signal(signal.SIGCONT)
    expect(banner).to_be_hidden()


def test_changes_of_policies_are_told_of_also_those_that_the_page_has_missed(mortal: Daemon, visit: Visit) -> None:
    put(mortal, "60_before")
    page = visit(mortal, "decisions", but=REFUSED)
    rows = page.locator("main tbody")
    expect(rows).to_contain_text("set 60_before, by user")
    put(mortal, "61_heard")
    expect(rows).to_contain_text("set 61_heard, by user")
    mortal.stop(signal.SIGKILL)
    expect(page.locator("#banner")).to_contain_text("mom cannot be reached")
    mortal.start()
    put(mortal, "62_missed")
    expect(rows).to_contain_text("set 62_missed, by user")
    expect(rows.get_by_text("set 62_missed")).to_have_count(1)
    page.goto(page.url.partition("#")[0] + "#/")
    told = "Number(document.querySelector('#state').textContent.split(' ')[2])"
    wait_until(lambda: page.evaluate(f"{DRAWN} >= {told}"), lambda: page.evaluate(f"[{DRAWN}, {told}]"), 40)


TABS = 7
"""One more than the connections of a browser to one server with HTTP/1.1."""

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Set whether a page is visible. With Playwright, every tab counts as visible."""


def goes_on(page: Page) -> None:
    """Wait until the page shows another cycle."""
    state = page.locator("#state")
    before = state.inner_text()
    expect(state).not_to_have_text(before)
    expect(state).to_have_text(re.compile("^live: cycle"))


def test_each_of_seven_tabs_is_live_when_seen_and_a_hidden_one_asks_nothing_and_misses_nothing(
    daemon: Start, tunnel: Dig, visit: Visit
) -> None:
    dug = tunnel(daemon(interval="500ms").socket)
    first = visit(f"{dug.url}/", but=REFUSED)
    tabs = [first, *(first.context.new_page() for _ in range(TABS - 1))]
    for tab in tabs:
        tab.goto(dug.url)
        goes_on(tab)
        tab.evaluate(HIDE, True)
    for tab in tabs:
        tab.evaluate(HIDE, False)
        goes_on(tab)
        tab.evaluate(HIDE, True)
    first.wait_for_timeout(1000)  # until pending messages have arrived
    carried = dug.carried
    first.wait_for_timeout(1500)
    assert dug.carried == carried, "nothing is asked, and nothing told"
    first.evaluate(HIDE, False)
    goes_on(first)
    told = "Number(document.querySelector('#state').textContent.split(' ')[2])"
    wait_until(lambda: first.evaluate(f"{told} - {DRAWN} < 3"), lambda: first.evaluate(f"[{DRAWN}, {told}]"), 40)


# --- policies ---------------------------------------------------------------------------------------------------------------------------


def text_in_force(mom: Daemon, name: str) -> str | None:
    with client(mom) as one:
        answer = one.get(f"/v1/policies/{name}")
        return answer.json()["text"] if answer.status_code == 200 else None


def new_policy(page: Page, name: str) -> Locator:
    """Return the editor of the policy with this name."""
    page.get_by_label("Name of a new policy").fill(name)
    page.keyboard.press("Enter")
    return page.get_by_role("textbox", name=name)


def test_a_policy_is_checked_while_it_is_typed_saved_and_taken_back(mom: Daemon, visit: Visit) -> None:
    page = visit(mom, "policies")
    expect(page.locator("details").first).to_be_attached()
    changes = page.locator("details").count()
    editor = new_policy(page, "60_typed")
    editor.fill("# mine\n\n(with Guests guest\n    (+ 1 2)\n")
    expect(page.locator("#verdict")).to_contain_text("the policy cannot be saved")
    expect(page.locator(".gutter .mark")).to_have_text("✗ 3")
    page.locator("ul.plain button").first.click()
    assert editor.evaluate("e => e.value.slice(0, e.selectionStart).split('\\n').length") == 3
    editor.fill("(with Guests guest (+ guest.swap_in 1))\n")
    expect(page.locator("#verdict")).to_have_class("warn")
    expect(page.locator(".gutter .mark.hint")).to_have_text("! 1")
    editor.fill("(+ 1 2)\n")
    expect(page.locator("#verdict")).to_contain_text("the policy can be saved")
    assert text_in_force(mom, "60_typed") is None, "checking changes nothing"
    editor.press("Control+s")
    expect(page.locator("p.notice")).to_contain_text("60_typed is saved")
    assert text_in_force(mom, "60_typed") == "(+ 1 2)\n"
    editor.fill("(+ 1 3)\n")
    editor.press("Control+s")
    expect(page.locator("details")).to_have_count(changes + 2)
    page.locator("details summary").nth(2).click()
    page.get_by_role("button", name="Restore this version").click()
    expect(page.locator("details")).to_have_count(changes + 3)
    assert text_in_force(mom, "60_typed") is None


def test_two_who_change_a_policy_do_not_overwrite_each_other(shared: Start, visit: Visit) -> None:
    mom = shared(interval="30s")
    put(mom, "60_mine", "(+ 1 1)\n")
    page = visit(mom, "policies/60_mine", but=REFUSED)
    editor = page.get_by_role("textbox", name="60_mine")
    editor.fill("(+ 3 3)\n")
    put(mom, "60_mine", "(+ 2 2)\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("p.notice.bad")).to_contain_text("Somebody else has changed the policies")
    assert text_in_force(mom, "60_mine") == "(+ 2 2)\n"
    assert editor.input_value() == "(+ 3 3)\n"
    page.get_by_role("button", name="Show what changed").click()
    shown = page.locator("#main details[open]")
    expect(shown.locator("pre")).to_contain_text("+(+ 2 2)")
    page.get_by_role("button", name="Save mine anyway").click()
    expect(page.locator("p.notice")).to_contain_text("60_mine is saved")
    assert text_in_force(mom, "60_mine") == "(+ 3 3)\n"


# --- access -----------------------------------------------------------------------------------------------------------------------------


def test_through_tcp_it_takes_a_token_and_readers_see_no_dead_buttons(daemon: Start, visit: Visit, tmp_path: Path, free_port: int) -> None:
    tokens = {"read": "r" * 32, "change": "c" * 32}
    daemon(http=json.dumps({"tcp": tcp_settings(tmp_path, free_port, **tokens)}))
    page = visit(f"https://127.0.0.1:{free_port}/#/policies", ignore_https_errors=True, but=REFUSED)
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    page.get_by_label("Key or token").fill("wrong" * 8)
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("Check that the token is the right one")
    page.get_by_label("Key or token").fill(tokens["read"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("may read", exact=True)).to_be_visible()
    expect(page.locator("textarea")).to_have_attribute("readonly", "")
    for button in ("Save", "New policy", "Remove this policy", "Drop all run-time changes", "Restore this version"):
        expect(page.get_by_role("button", name=button)).to_have_count(0)
    expect(page.locator("p.notice").first).to_contain_text("change_token")
    assert page.evaluate("[document.cookie, localStorage.getItem('mom-token')]") == ["", None]
    page.reload()
    expect(page.get_by_text("may read", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_be_visible()
    page.get_by_label("Key or token").fill(tokens["change"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("may change", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="New policy")).to_be_visible()


ATTACK = """<!doctype html><title>begun</title><form id=f method=post target=out enctype=text/plain action="%(url)s/v1/policy-reset">
<input name=x value=y></form><iframe name=out></iframe><iframe id=framed src="%(url)s/"></iframe><script>
const seen = [];
async function tries() {
  for (const [path, method, type] of [["/v1/policy-reset", "POST", "text/plain"],
      ["/v1/policies", "PATCH", "application/json"], ["/v1/status", "GET", null], ["/v1/policy-check", "POST", "application/json"]])
    for (const mode of ["cors", "no-cors"]) {
      const headers = mode === "cors" ? {"if-match": "*", ...(type && {"content-type": type})} : {};
      try {
        const used = mode === "no-cors" && method !== "GET" ? "POST" : method;
        const body = method === "GET" ? undefined : "(+ 6 6)";
        const answer = await fetch("%(url)s" + path, {method: used, mode, headers, body});
        if (answer.type !== "opaque" && answer.ok) seen.push(path);
      } catch {}
    }
  try { await fetch("%(url)s/v1/events").then((a) => a.ok && seen.push("events")); } catch {}
  document.getElementById("f").submit();
  await new Promise((resolve) => setTimeout(resolve, 300));
  try { if (document.getElementById("framed").contentDocument?.body?.textContent) seen.push("framed"); } catch {}
  document.title = "done " + JSON.stringify(seen);
}
tries();
</script>"""


def test_a_hostile_page_cannot_use_the_operators_tunnel(shared: Start, tunnel: Dig, visit: Visit) -> None:
    mom = shared(interval="30s")
    with client(mom) as one:
        put(mom, "60_mine")
        before = one.get("/v1/policies").headers["etag"]
        way = tunnel(mom.socket)

        class Hostile(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the standard library's name
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write((ATTACK % {"url": way.url}).encode())

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as site:
            thread = threading.Thread(target=site.serve_forever)
            thread.start()
            port = site.server_address[1]
            # Another port is another origin, although browsers treat it as the same site.
            for name in ("127.0.0.1", "localhost", "evil.example"):
                page = visit(f"http://{name}:{port}/", but=".")
                expect(page).to_have_title("done []")
            site.shutdown()
            thread.join()
        page = visit(f"http://evil.example:{way.port}/v1/status", but=".")  # a name of another owner that points to this machine
        expect(page.locator("body")).to_contain_text("is for another site")
        assert "cannot" not in page.title()
        assert one.get("/v1/policies").headers["etag"] == before


# --- hostile names -------------------------------------------------------------------------------------------------------------------


FULL = Verdict(
    (
        Condition("memory", "the host is full", "too much is promised", f"move {EVIL}", plugins=("balloon",), since=1.7e9, lasted=190.0),
        Condition("promises", EVIL, severity=Severity.WARNING, plugins=("balloon",), since=1.7e9, lasted=190.0),
    )
)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of a mom whose guests and policies have names with HTML and scripts."""
    plugins: dict[str, object] = {"sim": {"guests": 1}, "policy": {}, "http": {}}
    config = load_config({"interval": "1h", "state_directory": f"{tmp_path}/s", "run_directory": f"{tmp_path}/r", "plugins": plugins})
    names = [EVIL, "__proto__", "constructor", "a\x1b[31mb\u202ec", "'-alert(1)-'", "x" * 500, "\ud800"]
    with Engine(config) as engine:
        (plugin,) = (one.instance for one in engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        engine.cycle()
        ended = threading.Event()

        def cycles() -> None:
            number = 2
            while not ended.wait(0.3):
                guests: dict[str, dict[str, Value]] = {
                    name: {"balloon_cur": 1000 * number, "balloon_max": 9000, "mem_usable": 300, "balloon_obstacle": EVIL} for name in names
                }
                taken = snapshot(host={"mem_available": 10_000, "mem_really_available": 5000}, guests=guests)
                plugin.mom_report(Report(number, time.time(), EVIL, taken, (), (), (), (), (), 0.01, verdict=FULL))
                number += 1

        thread = threading.Thread(target=cycles)
        thread.start()
        path = tmp_path / "r/mom.sock"
        try:
            with client(path) as one:
                text = f"# {EVIL}</textarea></script><script>document.title='taken over'</script>\n(+ 1 2)\n"
                body = {"changes": {EVIL.replace("/", ""): text}}
                one.patch("/v1/policies", json=body, headers={"if-match": "*"}).raise_for_status()
            yield path
        finally:
            ended.set()
            thread.join()


def test_names_stay_names(hostile: Path, visit: Visit) -> None:
    page = visit(hostile)
    verdict = page.locator(".now .notice")
    expect(verdict.first).to_have_text(re.compile("✗ the host is full, since .*Why: too much is promised.*What to do: move <img"))
    expect(verdict.nth(1)).to_contain_text(f"! {EVIL}")
    assert verdict.first.evaluate("one => one.classList.contains('bad')")
    assert page.locator("img").count() == 0
    page.evaluate("location.hash = '#/guests'")
    expect(page.get_by_role("link", name=EVIL, exact=True)).to_be_visible()
    page.get_by_role("link", name=EVIL, exact=True).click()
    expect(page.get_by_role("heading", name=EVIL, exact=True)).to_be_visible()
    for view in ("", "health", "decisions"):
        page.evaluate(f"location.hash = '#/{view}'")
        page.wait_for_timeout(300)
        assert page.locator("img").count() == 0
    page.evaluate("location.hash = '#/policies'")
    page.get_by_role("navigation", name="Policies").get_by_text("onerror").click()
    expect(page.locator("textarea")).to_have_value(re.compile("taken over"))
    assert page.locator("img").count() == 0
    assert "taken over" not in page.title()


def test_the_browser_is_told_to_run_nothing_else(mom: Daemon, visit: Visit) -> None:
    page = visit(mom, but=".")
    expect(page.locator("footer")).to_contain_text("live")
    with client(mom) as one:
        answer = one.get("/")
    assert not re.search(r"(src|href)=\"(?!#|data:,|page/[a-z_]+\.(js|css)\")", answer.text), "nothing is loaded from anywhere else"
    assert not re.search(r"<style|<script(?! type=\"module\" src=\"page/page.js\"></script>)", answer.text), "nothing runs in place"
    script = "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.head.append(s)"
    for attempt in ("document.body.innerHTML = '<b>x</b>'", script):
        assert page.evaluate(f"() => {{ try {{ {attempt}; return 'done'; }} catch {{ return 'refused'; }} }}") == "refused"
    clicked = "const d = document.createElement('div'); d.setAttribute('onclick', 'document.title = 1'); document.body.append(d); d.click()"
    page.evaluate(f"() => {{ try {{ {clicked} }} catch {{}} }}")
    assert page.title() != "1"


@contextmanager
def mom_page(mom: Daemon, port: int) -> Iterator[str]:
    """Yield the address that `mom page` prints, while it runs."""
    command = [str(MOM), "page", "--port", str(port), "-c", str(mom.config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def test_through_the_pages_own_socket_one_browser_gets_in_with_a_key_that_works_once(mom: Daemon, tunnel: Dig, visit: Visit) -> None:
    dug = tunnel(mom.socket.with_name("mom-page.sock"))
    with mom_page(mom, dug.port) as address, mom_page(mom, dug.port) as second:
        page = visit(address, but=REFUSED)
        expect(page.locator("footer")).to_contain_text("live")
        expect(page.locator("#who")).to_have_text("may change")
        assert "key" not in page.url, "it stays in no history"
        page.reload()
        expect(page.locator("footer")).to_contain_text("live")
        other = visit(address, but=REFUSED)
        problem = other.locator("#login-problem")
        expect(problem).to_contain_text("already used, or expired: get another key on the host: mom page")
        other.get_by_label("Key or token").fill(second.partition("#key=")[2])
        other.get_by_role("button", name="Sign in").click()
        expect(other.locator("footer")).to_contain_text("live")


KEPT = "sessionStorage.getItem('mom-token')"


def test_a_session_ends_with_its_mom_page_and_is_forgotten_when_the_port_is_lost(mom: Daemon, tunnel: Dig, visit: Visit) -> None:
    """ssh may have ended, and another user of the workstation may have the port."""
    dug = tunnel(mom.socket.with_name("mom-page.sock"))
    for lost in (False, True):
        with mom_page(mom, dug.port) as address:
            page = visit(address, but=REFUSED)
            expect(page.locator("footer")).to_contain_text("live")
            page.reload()
            expect(page.locator("footer")).to_contain_text("live")
            assert page.evaluate(KEPT)
            if lost:
                dug.close()
                wait_until(lambda page=page: not page.evaluate(KEPT))  # type: ignore[misc]  # mypy does not know the lambda's default
        if not lost:  # mom ends the page's stream, and refuses the next one
            expect(page.locator("#login-problem")).to_contain_text("the request has no valid token or session")
