// The page: views, event stream, sign-in and keys.

import { headline } from "./acts.js";
import { Refused, Unreached, ask, get, said } from "./api.js";
import { forgetIfLost, keepToken, token } from "./connection.js";
import { DecisionsView } from "./decisions.js";
import { byId, emptyState, h, renew, seen, write } from "./elements.js";
import { clock, lately } from "./figures.js";
import { GuestView } from "./guest.js";
import { GuestsView } from "./guests.js";
import { HealthView } from "./health.js";
import { HostView } from "./host.js";
import { GUEST_FIELDS, Mom, forgetDeclared } from "./known.js";
import { PoliciesView, drafts } from "./policies.js";
import { LaunchesView } from "./launches.js";
import { listen, shown } from "./stream.js";

const LIST_MS = 1000; // least time between two updates of all guests
const AGAIN_MS = 2000;

/**
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {() => void | Promise<void>} update a cycle has ended
 * @property {(name: string, content: any) => void | Promise<void>} [tell] something else has changed
 * @property {() => void} [close]
 */

const mom = new Mom();
const connection = { trouble: "", since: 0, lost: false, failed: "" };


/** @type {[string, string, (detail: string) => View][]} */
const VIEWS = [
  ["", "Host", () => new HostView(mom)],
  ["guests", "Guests", () => new GuestsView(mom)],
  ["policies", "Policies", (name) => new PoliciesView(mom, name)],
  ["health", "mom", () => new HealthView(mom)],
  ["decisions", "Decisions", () => new DecisionsView()],
  ["launches", "Launches", () => new LaunchesView(mom)],
];

/** @type {View | null} */
let view = null;

/** @returns {[string, string]} */
function where() {
  const [, name = "", ...rest] = location.hash.split("/");
  try {
    return [name, decodeURIComponent(rest.join("/"))];
  } catch {
    return [name, ""];
  }
}

function show() {
  if (!mom.newest) return;
  const [name, detail] = where();
  view?.close?.();
  view = name === "guest" ? new GuestView(mom, detail) : (VIEWS.find(([one]) => one === name) ?? VIEWS[0])[2](detail);
  byId("main").replaceChildren(view.element);
  document.title = seen(`${view.title} – mom`);
  for (const link of byId("views").children) {
    if (link.getAttribute("data-view") === (name === "guest" ? "guests" : name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  refresh();
}

function refresh() {
  Promise.resolve(view?.update()).catch(complain);
}

/** @param {unknown} error */
function complain(error) {
  if (forgetIfLost(error)) connection.lost = true;
  if (error instanceof Refused) trouble(error);
  else if (!(error instanceof Unreached)) console.error(error); // the stream fails, too, and reports it
}


let lookedAt = 0;
let looking = 0;

/** @param {Api.ReportDocument} report */
function hear(report) {
  mom.hear(report);
  connection.trouble = "";
  banner();
  verdict(report);
  if (document.hidden || looking) return;
  looking = window.setTimeout(look, view ? Math.max(0, lookedAt + LIST_MS - performance.now()) : 0);
}

async function look() {
  try {
    if (document.hidden) return; // once visible, the next cycle updates it
    lookedAt = performance.now();
    mom.look();
    const first = !view;
    if (first) show(); // at once; problems follow
    if (await mom.lookAtProblems() || !first) refresh();
  } catch (error) {
    complain(error);
  } finally {
    looking = 0;
  }
}

/** @param {string} name @param {any} content */
function tell(name, content) {
  Promise.resolve(view?.tell?.(name, content)).catch(complain);
}

async function back() {
  const again = view !== null;
  forgetDeclared(); // other plugins may be enabled now
  await mom.loadHost();
  refresh();
  await mom.loadPast();
  refresh();
  if (again) tell("policies", { items: [] }); // events may have been missed
}

/** @param {unknown} error @returns {"stop" | "again"} */
function lost(error) {
  if (error instanceof Refused && error.status === 401) {
    signIn(error);
    return "stop";
  }
  trouble(error);
  return "again";
}

/** @param {unknown} error */
function trouble(error) {
  if (forgetIfLost(error)) connection.lost = true;
  if (!connection.trouble) connection.since = Date.now() / 1000;
  connection.trouble = said(error);
  banner();
  if (!mom.newest) renew(byId("main"), instead(error));
}

/** Content before the first report: error and fix. @param {unknown} error */
function instead(error) {
  /** @type {import("./api.js").Instead} */
  const { title, command, start } = error instanceof Refused ? error.instead ?? { title: "mom refuses to answer", command: "" }
    : { title: "mom does not answer", command: "systemctl status mom" };
  const press = start && h("button", { type: "button", class: "chief", onclick: () => start().catch((/** @type {Error} */ { message }) => { connection.failed = message; }) }, "Start mom");
  return emptyState("!", title, `${connection.trouble}. Retrying.`, command && h("pre", null, command), press, h("p", { class: "bad", role: "alert" }, connection.failed));
}

/** Show the verdict in one line of fixed height above all views. @param {Api.ReportDocument} report */
function verdict(report) {
  const standing = (report.verdict?.conditions ?? []).filter((one) => one.severity !== "ok");
  const [worst] = standing;
  const line = byId("host-verdict");
  line.className = !worst ? "good" : worst.severity === "error" ? "bad" : "warn";
  renew(line, worst ? h("a", { href: "#/" }, `${worst.severity === "error" ? "✗" : "!"} since ${lately(worst.since)}: ${standing.map(headline).join(" · ")}`) : "✓ Nothing is wrong with the host");
  line.title = standing.map((one) => one.message).join("\n");
  const [host] = byId("views").children;
  renew(host, "Host", standing.length > 0 && " ", standing.length > 0 && h("span", { class: "count", title: "what is wrong" }, standing.length));
  const names = standing.map((one) => one.name).join();
  if (names === announced) return; // announce only the start and end of conditions
  announced = names;
  write(byId("announced"), worst ? worst.message : "Nothing is wrong with the host");
}

let announced = "";

/** Show in one line why the page is not live. */
function banner() {
  if (document.hidden) return;
  const { newest } = mom;
  const line = byId("banner");
  const late = newest && mom.heard && (performance.now() - mom.heard) / 1000 > 3 * newest.interval_seconds + 1;
  const text = connection.trouble && newest ? `${connection.trouble}, since ${clock(connection.since)}. Retrying; the data below is older.`
    : late ? `mom has not finished a cycle since ${clock(newest.cycle.time)}: it has hung, or is suspended.` : "";
  write(line, text);
  line.hidden = !text;
  byId("host-verdict").hidden = Boolean(text);
  document.body.classList.toggle("stale", Boolean(text));
  if (!newest || !mom.heard) return;
  byId("mode").hidden = false;
  write(byId("mode"), newest.mode === "observe" ? "only observes" : newest.mode === "enforce" ? "acts" : newest.mode);
  write(byId("title"), `mom on ${newest.host.name}`);
  write(byId("state"), `${text ? "not live" : "live"}: cycle ${newest.cycle.number} at ${clock(newest.cycle.time)}`);
}


const login = /** @type {HTMLDialogElement} */ (byId("login"));
const tokenField = /** @type {HTMLInputElement} */ (byId("token"));

/** @param {Refused} error @param {string} [key] */
function signIn(error, key = "") {
  const had = token();
  keepToken(null);
  write(byId("login-problem"), key ? `${error.message}: ${error.hint}.` : had ? `${error.message}. Check that the token is the right one, and complete.`
    : connection.lost ? "The connection was lost, and another user may have its port: the session was forgotten. Get another key on the host: mom page" : "");
  connection.lost = false;
  tokenField.value = "";
  if (!login.open) login.showModal();
  tokenField.focus();
}

/** Exchange a key of `mom page` for a session. @param {string} key */
async function exchange(key) {
  keepToken(null);
  const { content } = await ask("POST", "v1/page-sessions", { body: { key } });
  keepToken(content.token);
}


async function begin(key = "") {
  await shown();
  try {
    if (key) await exchange(key);
    key = "";
    mom.me = /** @type {Api.Client} */ (await get("v1/whoami"));
    login.close();
    write(byId("who"), mom.mayChange ? "may change" : "may read");
    byId("who").title = mom.me.name;
    byId("leave").hidden = !token();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      signIn(error, key);
      return;
    }
    trouble(error);
    setTimeout(begin, AGAIN_MS, error instanceof TypeError && location.protocol === "http:" ? "" : key); // another user may have the port by then
    return;
  }
  listen({ fields: GUEST_FIELDS, hear, tell, lost, back });
}

const SHORTCUTS = [[`1 … ${VIEWS.length}`, "the views, in their order"], ["/", "filter guests; then ↓ or Enter: to the first match"], ["↑ ↓ PgUp PgDn Home End", "from guest to guest in the list; Enter opens one"],
  ["← →", "in a chart: earlier and later; + or dragging zooms in, - zooms out, Esc or a double click shows all"], ["Ctrl S", "save the policy that is being edited"], ["?", "this list"], ["Esc", "back from a guest to the list"]];
const keys = /** @type {HTMLDialogElement} */ (byId("keys"));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || (event.target instanceof Element && event.target.closest("input, textarea, select, dialog"))) return;
  const number = Number(event.key);
  if (number >= 1 && number <= VIEWS.length) location.hash = `#/${VIEWS[number - 1][0]}`;
  else if (event.key === "?") keys.showModal();
  else if (event.key === "Escape" && where()[0] === "guest") location.hash = "#/guests";
  else if (event.key === "/") {
    event.preventDefault();
    if (where()[0] !== "guests") {
      history.pushState(null, "", "#/guests");
      show();
    }
    document.getElementById("filter")?.focus();
  }
});

byId("views").append(...VIEWS.map(([name, label]) => h("a", { href: `#/${name}`, "data-view": name }, label)));
byId("key-rows").append(...SHORTCUTS.map(([key, what]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, key)), h("td", null, what))));
byId("help").addEventListener("click", () => keys.showModal());
byId("leave").addEventListener("click", () => {
  keepToken(null);
  location.reload();
});
login.addEventListener("cancel", (event) => event.preventDefault());
byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = tokenField.value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    write(byId("login-problem"), "A token has only ASCII characters, and no spaces.");
    return;
  }
  if (given.startsWith("key-")) {
    begin(given);
    return;
  }
  keepToken(given);
  begin();
});
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) {
    location.reload();
    return;
  }
  show();
  byId("main").focus({ preventScroll: true });
});
addEventListener("beforeunload", (event) => { if (drafts.size) event.preventDefault(); });
document.addEventListener("visibilitychange", () => {
  if (mom.heard) mom.heard = performance.now();
  banner();
});
setInterval(banner, 1000);
const key = location.hash.startsWith("#key=") ? location.hash.slice(5) : "";
if (key) history.replaceState(null, "", "#/");
begin(key);
