// The page: what is known of mom, the views on it, and what keys do.

const KEPT_HAPPENINGS = 500;
const KEPT_SAMPLES = 720;
const LIST_MS = 1000; // between two looks at all guests, however short the cycles are
const THEME = "mom-theme";

const mom = { me: null, status: null, event: null, heard: 0, guests: [], sparks: new Map(), samples: [], happenings: [], leftOut: 0, fields: new Map(), controls: new Map() };
const connection = { trouble: null, since: 0 };

// --- the host ---

const total = (sample) => sample.fields.mem_available;
const saved = (sample) => (isNumber(sample.fields.ksm_pages_sharing) ? sample.fields.ksm_pages_sharing * 4 : null);

// The host's memory in parts that add up: what guests hold is counted with what KSM merged, which is there only once.
function parts(sample) {
  const used = total(sample) - sample.fields.mem_really_available;
  const merged = saved(sample);
  const guests = isNumber(sample.guests_together?.rss) ? Math.max(0, Math.min(used, sample.guests_together.rss - (merged ?? 0))) : null;
  return { guests, itself: guests === null ? used : Math.max(0, used - guests), free: sample.fields.mem_really_available, saved: merged };
}

class HostView {
  constructor() {
    this.title = "Host";
    this.tiles = h("dl", { class: "tiles" });
    this.chart = new Chart("Memory of the host", { stacked: true, limitLabel: "all that the host has" });
    this.problems = h("ul", { class: "plain" });
    this.recent = h("tbody");
    this.element = h("div", null, h("h2", null, "Host"), this.tiles, this.chart.element,
      h("p", { class: "faint" }, "What is above the dashed line is memory that KSM saves."),
      h("h3", null, "Problems"), this.problems,
      h("h3", null, "Done lately"), h("div", { class: "scroll" }, h("table", null, happeningHeads(), this.recent)));
  }

  update() {
    const { event, status } = mom;
    const known = event.host;
    const tile = (label, value, more, tone) => h("div", null, h("dt", null, label), h("dd", { class: tone ?? "" }, value, more && h("small", null, more)));
    const psi = (kind) => `${percent(known[`psi_${kind}_some_avg10`])}`;
    const share = known.mem_really_available / known.mem_available;
    const counted = Object.entries(status.outcomes).filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
    const moving = (known.swap_in_rate || 0) + (known.swap_out_rate || 0);
    this.tiles.replaceChildren(
      tile("Available", kib(known.mem_really_available), `of ${kib(known.mem_available)} (${percent(share * 100, 0)})`, share < 0.05 ? "bad" : share < 0.2 ? "warn" : ""),
      tile("Guests", event.guests, `have ${kib(sumOf("balloon_cur"))} of ${kib(sumOf("balloon_max"))}`),
      tile("Memory pressure", psi("memory"), `all waited ${percent(known.psi_memory_full_avg10)}`, known.psi_memory_some_avg10 >= 10 ? "bad" : ""),
      tile("Swap", kib(known.swap_usage), `of ${kib(known.swap_total)}${moving ? `, ${kib((known.swap_in_rate || 0) * 4)}/s in, ${kib((known.swap_out_rate || 0) * 4)}/s out` : ""}`, moving ? "warn" : ""),
      tile("KSM saves", kib(isNumber(known.ksm_general_profit) ? known.ksm_general_profit / 1024 : saved({ fields: known })), `${known.ksm_run === 1 ? "merges" : isNumber(known.ksm_run) ? "is off" : "nobody looks at it"}${isNumber(known.ksmd_cpu_usage) ? `, ${percent(known.ksmd_cpu_usage, 0)} of a CPU` : ""}`),
      ...(isNumber(known.given_back_sweeps) ? givenBack(known, tile) : []),
      tile("Cycle", event.cycle.number, `took ${span(event.cycle.duration_seconds)}, lag ${span(event.cycle.lag_seconds)}${event.cycle.skipped ? `, ${event.cycle.skipped} left out` : ""}`),
      tile("Decided", event.changes ? `${event.changes} change${event.changes === 1 ? "" : "s"}` : "nothing new", counted));
    const samples = mom.samples.filter((sample) => isNumber(total(sample)) && isNumber(sample.fields.mem_really_available));
    const made = samples.map(parts);
    const layer = (label, key) => ({ label, fill: `${key}-fill`, values: made.map((one) => one[key]) });
    const layers = [layer("the host itself", "itself"), layer("available", "free")];
    if (made.some((one) => one.saved !== null)) layers.push(layer("saved by KSM", "saved"));
    if (made.some((one) => one.guests !== null)) layers.unshift(layer("guests", "guests"));
    this.chart.show(samples.map((sample) => sample.time), layers, samples.map(total));
    this.problems.replaceChildren(...told(event.common_problems));
    this.recent.replaceChildren(...recent(10));
  }
}

// What the recorder's accounts say, by the definitions of `mom report`.
function givenBack(known, tile) {
  const means = { balloon: known.given_back_balloon, sweeps: known.given_back_sweeps, KSM: known.given_back_ksm, cold: known.given_back_cold };
  const given = Object.entries(means).filter(([, size]) => isNumber(size));
  const each = given.filter(([, size]) => size).map(([name, size]) => `${name} ${kib(size)}`).join(", ");
  const cost = [
    isNumber(known.waited_today) ? `guests waited ${span(known.waited_today)} for it at most` : null,
    known.promise_broken_today ? `promises broken for ${span(known.promise_broken_today)}` : null,
    known.killed_today ? `${known.killed_today} programs killed` : null,
  ];
  return [
    tile("Given back", kib(given.reduce((sum, [, size]) => sum + size, 0)), each),
    tile("Given back today", kib(known.given_back_today), ["on average", ...cost.filter((one) => one)].join(", "), known.promise_broken_today ? "warn" : ""),
  ];
}

const sumOf = (name) => mom.guests.reduce((sum, guest) => sum + (isNumber(guest.fields[name]) ? guest.fields[name] : 0), 0);

function happeningHeads() {
  return h("thead", null, h("tr", null, ["When", "Who", "Control", "From", "To", "Outcome", "By"].map((name) => h("th", { scope: "col" }, name))));
}

function recent(most) {
  if (!mom.happenings.length) return [h("tr", null, h("td", { colspan: 7, class: "faint" }, "Nothing for as long as mom remembers."))];
  return mom.happenings.slice(0, most).map((one) => (one.text === undefined ? happened(mom, one, true)
    : h("tr", null, h("td", null, clock(one.time)), h("td", null, one.about), h("td", { colspan: 5 }, one.text))));
}

// What has changed beside what was decided. The beginnings and ends of trials are among the changes of policies.
const policyNews = (one) => ({ time: one.time, about: "policies", text: `${one.what}, by ${one.who}` });
const reservationNews = (time) => (one) => ({ time: time ?? one.created_at, about: "reserved",
  text: `${kib(one.memory_kib)} for ${one.name || one.id}: ${one.state}${one.guest ? `, by ${one.guest.name}` : ""}${one.note ? `; ${one.note}` : ""}` });

async function pastNews() {
  const known = (path) => get(path).catch((error) => { if (error instanceof Refused) return {}; throw error; }); // nothing that is enabled has them
  const [changes, kept] = await Promise.all([known("/v1/policy-history"), known("/v1/reservations")]);
  return [...(changes.items ?? []).map(policyNews), ...[...(kept.items ?? []), ...(kept.ended ?? [])].map(reservationNews(null))];
}

function tell(name, content) {
  const made = name === "policies" ? content.items.map(policyNews).reverse() : name === "reservations" ? content.items.map(reservationNews(Date.now() / 1000)) : [];
  mom.happenings.unshift(...made.filter((one) => !mom.happenings.some((other) => other.text === one.text && other.time === one.time)));
  mom.happenings.length = Math.min(mom.happenings.length, KEPT_HAPPENINGS);
}

function told(problems) {
  if (!problems.length) return [h("li", { class: "good" }, "none")];
  return problems.map((one) => h("li", null, h("strong", { class: one.severity === "error" ? "bad" : "warn" }, one.severity), ` ${place(one.source)}: `,
    one.who && h("span", null, `${one.who}: `), one.message, one.hint && h("span", { class: "faint" }, ` (${one.hint})`),
    h("span", { class: "faint" }, `, since ${moment(one.since)}`)));
}

// --- health ---

class HealthView {
  constructor() {
    this.title = "Health";
    this.cycle = h("dl", { class: "tiles" });
    this.chart = new Chart("How long cycles took", { small: true, text: span });
    this.plugins = h("tbody");
    this.problems = h("ul", { class: "plain" });
    const heads = ["Plugin", "State", "Took", "Calls", "Failed", "Hooks", "Last error"];
    this.element = h("div", null, h("h2", null, "Health"), this.cycle, this.chart.element, h("h3", null, "Plugins"),
      h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, heads.map((name) => h("th", { scope: "col" }, name)))), this.plugins)),
      h("h3", null, "Problems"), this.problems);
  }

  async update() {
    const { event, status } = mom;
    const tile = (label, value) => h("div", null, h("dt", null, label), h("dd", null, value));
    this.cycle.replaceChildren(tile("Version", status.version), tile("Mode", event.mode), tile("Process", status.pid), tile("Runs since", moment(status.started_at)),
      tile("Interval", span(status.interval_seconds)), tile("Cycles left out", event.cycle.skipped), tile("Woken by", event.cycle.woken_by || "its interval"));
    this.chart.show(mom.samples.map((one) => one.time), [{ label: "cycle", stroke: "stroke-0", values: mom.samples.map((one) => one.duration_seconds) }]);
    this.problems.replaceChildren(...told(event.common_problems));
    const { items } = await get("/v1/plugins");
    this.plugins.replaceChildren(...items.map((one) => {
      const hooks = Object.entries(one.durations_seconds);
      const again = one.retry_in_seconds ? `, tried again in ${span(one.retry_in_seconds)}` : "";
      return h("tr", null, h("th", { scope: "row" }, one.name), h("td", { class: one.state === "ok" ? "good" : "bad" }, one.state + again),
        h("td", null, span(hooks.reduce((sum, [, took]) => sum + took, 0))), h("td", null, one.calls), h("td", { class: one.failures ? "warn" : "" }, one.failures),
        h("td", { class: "faint" }, hooks.map(([hook, took]) => `${hook.replace("mom_", "")} ${span(took)}`).join(", ")), h("td", null, one.last_error));
    }));
  }
}

// --- events ---

class EventsView {
  constructor() {
    this.title = "Decisions";
    this.body = h("tbody");
    this.more = h("p", { class: "faint" });
    this.element = h("div", null, h("h2", null, "Decisions and what came of them"), h("div", { class: "scroll" }, h("table", null, happeningHeads(), this.body)), this.more);
  }

  update() {
    this.body.replaceChildren(...recent(200));
    this.more.textContent = mom.leftOut ? `${mom.leftOut} more in busy cycles: mom tells of 100 in each.` : "";
  }
}

// --- which view ---

const VIEWS = [["", "Host"], ["guests", "Guests"], ["policies", "Policies"], ["health", "Health"], ["decisions", "Decisions"]];
let view = null;

function where() {
  const [, name = "", ...rest] = location.hash.split("/");
  let detail = rest.join("/");
  try { detail = decodeURIComponent(detail); } catch { detail = ""; }
  return [name, detail];
}

function show() {
  if (!mom.event) return;
  const [name, detail] = where();
  view?.close?.();
  if (name === "guests") view = new GuestsView(mom);
  else if (name === "guest") view = new GuestView(mom, detail);
  else if (name === "policies") view = new PoliciesView(mom, detail);
  else if (name === "health") view = new HealthView();
  else if (name === "decisions") view = new EventsView();
  else view = new HostView();
  byId("main").replaceChildren(view.element);
  document.title = `${view.title} – mom`;
  for (const link of byId("views").children) {
    const on = link.dataset.view === (name === "guest" ? "guests" : name);
    if (on) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  refresh();
}

function refresh() {
  Promise.resolve(view?.update()).catch((error) => { if (error instanceof Refused) trouble(error); else if (!(error instanceof TypeError) || !connection.trouble) console.error(error); });
}

// --- hearing of cycles ---

let lookedAt = 0;
let looking = null;

function learn(fields) {
  mom.fields = new Map(fields.map((one) => [`${one.scope}.${one.name}`, one]));
}

async function lookAtGuests() {
  const fields = LIST_FIELDS.filter((name) => mom.fields.has(`guest.${name}`));
  const [guests, status] = await Promise.all([everything(`/v1/guests?fields=${fields.join(",")}`), get("/v1/status")]);
  mom.status = status;
  mom.guests = guests;
  for (const guest of guests) {
    const spark = mom.sparks.get(guest.id) ?? [];
    spark.push(guest.fields.balloon_cur ?? null);
    if (spark.length > SPARK_CYCLES) spark.shift();
    mom.sparks.set(guest.id, spark);
  }
  const here = new Set(guests.map((guest) => guest.id));
  for (const id of mom.sparks.keys()) if (!here.has(id)) mom.sparks.delete(id);
}

function hear(event) {
  const first = !mom.event;
  mom.event = event;
  mom.heard = performance.now();
  if (!mom.samples.some((one) => one.cycle === event.cycle.number && one.time === event.cycle.time)) {
    mom.samples.push({ cycle: event.cycle.number, time: event.cycle.time, duration_seconds: event.cycle.duration_seconds, fields: event.host, guests_together: event.guests_together });
    if (mom.samples.length > KEPT_SAMPLES) mom.samples.shift();
    mom.happenings.unshift(...event.outcomes.map((one) => ({ ...one, time: event.cycle.time })));
    mom.happenings.length = Math.min(mom.happenings.length, KEPT_HAPPENINGS);
    mom.leftOut += Math.max(0, event.changes - event.outcomes.length);
  }
  connection.trouble = null;
  banner();
  verdict(event);
  if (document.hidden || looking) return;
  const wait = Math.max(0, lookedAt + LIST_MS - performance.now());
  looking = setTimeout(async () => {
    try {
      if (document.hidden) return; // when it is shown again, the next cycle has it look
      lookedAt = performance.now();
      await lookAtGuests();
      looking = null;
      if (first || !view) show(); else refresh();
    } catch (error) {
      if (error instanceof Refused && error.status === 400) await everything("/v1/fields").then(learn, () => {}); // other plugins are enabled now
      else if (error instanceof Refused) trouble(error);
    } finally {
      looking = null;
    }
  }, first ? 0 : wait);
}

function lost(error) {
  if (error instanceof Refused && error.status === 401) { signIn(error); return "stop"; }
  trouble(error);
  return "again";
}

function trouble(error) {
  if (!connection.trouble) connection.since = Date.now() / 1000;
  connection.trouble = error instanceof Refused ? [error.message, error.hint].filter(Boolean).join("; ")
    : error?.name === "TimeoutError" ? "mom does not answer: it hangs, or this browser shows it in more than five windows at once" : "mom cannot be reached";
  banner();
}

// What is wrong with the host as a whole, above all views: since when, why, and what to do.
function verdict(event) {
  const alerts = event.verdict?.alerts ?? [];
  const said = alerts.map((one) => [one.severity, `${one.severity === "error" ? "✗" : "!"} ${one.message}`,
    `since ${moment(one.since)}`, one.why && `Why: ${one.why}.`, one.cure && `What to do: ${one.cure}.`]);
  const section = byId("host-verdict");
  section.hidden = !alerts.length;
  if (section.dataset.said === JSON.stringify(said)) return; // what is read aloud is read once
  section.dataset.said = JSON.stringify(said);
  section.replaceChildren(...said.map(([severity, message, since, why, cure]) => h("div", { class: severity === "error" ? "notice bad" : "notice" },
    h("p", null, h("strong", null, message), ` ${since}`), why && h("p", null, why), cure && h("p", null, cure))));
}

// One line on what is wrong with what is shown, or nothing.
function banner() {
  if (document.hidden) return;
  const line = byId("banner");
  const age = mom.event ? (performance.now() - mom.heard) / 1000 : 0;
  const late = mom.event && mom.status && age > 3 * mom.status.interval_seconds + 1;
  const text = connection.trouble ? `${connection.trouble}, since ${clock(connection.since)}. It is asked again and again; what is below is older.`
    : late ? `mom has not finished a cycle since ${clock(mom.event.cycle.time)}: it hangs, or is stopped.` : "";
  if (line.textContent !== text) line.textContent = text;
  line.hidden = !text;
  document.body.classList.toggle("stale", Boolean(text));
  if (!mom.event) return;
  const mode = byId("mode");
  mode.hidden = false;
  write(mode, mom.event.mode === "observe" ? "only observes" : mom.event.mode);
  write(byId("state"), `${text ? "not live" : "live"}: cycle ${mom.event.cycle.number} of ${clock(mom.event.cycle.time)}`);
}

// --- the beginning ---

function signIn(error, key = "") {
  const dialog = byId("login");
  const had = sessionStorage.getItem(TOKEN);
  sessionStorage.removeItem(TOKEN);
  byId("login-problem").textContent = key ? `${error.message}: ${error.hint}.` : had ? `${error.message}. Is it the right one, with nothing missing?` : "";
  byId("token").value = "";
  if (!dialog.open) dialog.showModal();
  byId("token").focus();
}

// What was before this page began to listen; after a while in which it did not, as many cycles as it has missed.
async function load() {
  const status = await get("/v1/status");
  const last = mom.status?.started_at === status.started_at ? mom.samples.at(-1)?.cycle ?? 0 : 0;
  const missed = Math.min(KEPT_SAMPLES, status.cycle.number - last + 1);
  const [fields, controls, host, history, sparks, done, news] = await Promise.all([everything("/v1/fields"), everything("/v1/controls"), get("/v1/host"),
    get(`/v1/host/history?limit=${missed}`), get(`/v1/guest-histories?limit=${SPARK_CYCLES}`), get(`/v1/recent-outcomes?limit=${KEPT_HAPPENINGS}`), pastNews()]);
  learn(fields);
  mom.controls = new Map(controls.map((one) => [one.name, one]));
  const first = history.items.at(-1)?.cycle ?? 0;
  mom.samples = [...mom.samples.filter((one) => last && one.cycle < first), ...history.items.reverse()].slice(-KEPT_SAMPLES);
  mom.sparks = new Map(Object.entries(sparks.guests));
  mom.happenings = [...done.items, ...news].sort((one, other) => other.time - one.time).slice(0, KEPT_HAPPENINGS);
  write(byId("title"), `mom on ${host.name}`);
}

// A key of `mom page` works once: it becomes a session, and goes from the address, so that it stays in no history.
async function exchange(key) {
  sessionStorage.removeItem(TOKEN);
  const { content } = await ask("POST", "/v1/page-sessions", { body: { key } });
  sessionStorage.setItem(TOKEN, content.token);
}

async function begin(key = "") {
  await shown();
  try {
    if (key) await exchange(key);
    key = "";
    mom.me = await get("/v1/whoami");
  } catch (error) {
    if (error.status === 401) { signIn(error, key); return; }
    trouble(error);
    if (!mom.me) byId("main").replaceChildren(h("p", null, "mom does not tell."));
    setTimeout(() => begin(key), 2000);
    return;
  }
  byId("login").close();
  write(byId("who"), mom.me.right === "change" ? "may change" : "may read");
  byId("who").title = mom.me.name;
  byId("leave").hidden = !sessionStorage.getItem(TOKEN);
  try {
    await load();
  } catch (error) {
    trouble(error);
    setTimeout(() => begin(), 2000);
    return;
  }
  listen(hear, tell, lost, load);
}

const SHORTCUTS = [["1 … 5", "the views, in their order"], ["/", "filter guests; then ↓ or Enter: to the first that is left"], ["↑ ↓ PgUp PgDn Home End", "from guest to guest in the list; Enter opens one"],
  ["← →", "in a chart: earlier and later cycles"], ["Ctrl S", "save the policy that is being edited"], ["t", "light or dark"], ["?", "this list"], ["Esc", "back from a guest to the list"]];

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  byId("theme").textContent = dark() ? "Light" : "Dark";
}

function turnTheme() {
  const next = dark() ? "light" : "dark";
  try { localStorage.setItem(THEME, next); } catch { /* it is for this time only, then */ }
  theme(next);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
  const number = Number(event.key);
  if (number >= 1 && number <= VIEWS.length) location.hash = `#/${VIEWS[number - 1][0]}`;
  else if (event.key === "t") turnTheme();
  else if (event.key === "?") byId("keys").showModal();
  else if (event.key === "Escape" && where()[0] === "guest") location.hash = "#/guests";
  else if (event.key === "/") {
    event.preventDefault();
    if (where()[0] !== "guests") { history.pushState(null, "", "#/guests"); show(); }
    byId("filter")?.focus();
  }
});

byId("views").append(...VIEWS.map(([name, label]) => h("a", { href: `#/${name}`, "data-view": name }, label)));
byId("key-rows").append(...SHORTCUTS.map(([key, what]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, key)), h("td", null, what))));
byId("theme").addEventListener("click", turnTheme);
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("leave").addEventListener("click", () => { sessionStorage.removeItem(TOKEN); location.reload(); });
byId("login").addEventListener("cancel", (event) => event.preventDefault());
byId("login").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) { byId("login-problem").textContent = "A token is ASCII characters without spaces."; return; }
  if (token.startsWith("key-")) { begin(token); return; }
  sessionStorage.setItem(TOKEN, token);
  begin();
});
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) { location.reload(); return; }
  show();
  byId("main").focus({ preventScroll: true });
});
addEventListener("beforeunload", (event) => { if (drafts.size) event.preventDefault(); });
document.addEventListener("visibilitychange", () => { mom.heard = performance.now(); banner(); });
setInterval(banner, 1000);
try { theme(localStorage.getItem(THEME)); } catch { theme(null); }
const given = location.hash.startsWith("#key=") ? location.hash.slice(5) : "";
if (given) history.replaceState(null, "", "#/");
begin(given);
