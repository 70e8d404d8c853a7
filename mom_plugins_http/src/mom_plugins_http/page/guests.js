// The table of guests: only the rows that can be seen are made, so that a thousand are no more work than thirty.

const ROW = 32; // pixels, as the style has it
const SPARK_CYCLES = 60;
const LIST_FIELDS = ["balloon_cur", "balloon_max", "balloon_target", "balloon_obstacle", "mem_usable", "swap_in", "swap_out",
  "stats_age", "rss", "cold", "working_set_age", "guest_psi_memory_some_avg10", "host_psi_memory_some_avg10"];

const field = (name) => (guest) => guest.fields[name];
const used = (guest) => (isNumber(guest.fields.balloon_cur) && isNumber(guest.fields.mem_usable)
  ? Math.max(0, guest.fields.balloon_cur - guest.fields.mem_usable) : undefined);
const swapping = (guest) => {
  const rates = [guest.fields.swap_in, guest.fields.swap_out].filter(isNumber);
  return rates.length ? rates.reduce((sum, rate) => sum + rate, 0) : undefined;
};
const pressure = (guest) => guest.fields.guest_psi_memory_some_avg10 ?? guest.fields.host_psi_memory_some_avg10;
const remarks = (guest) => [...new Set([guest.fields.balloon_obstacle, ...Object.values(guest.blocked)].filter(Boolean))].join("; ");

const COLUMNS = [
  { key: "size", label: "Size", value: field("balloon_cur"), text: kib, about: "what it has now" },
  { key: "max", label: "Most", value: field("balloon_max"), text: kib, minor: true, about: "what it has with an empty balloon" },
  { key: "used", label: "Used", value: used, text: kib, about: "size less what is usable in it" },
  { key: "usable", label: "Usable", value: field("mem_usable"), text: kib, minor: true, about: "what it could give without swapping" },
  { key: "swap", label: "Swaps", value: swapping, text: (v) => (isNumber(v) ? `${kib(v)}/s` : UNKNOWN), minor: true, bad: (v) => v >= 1,
    about: "what it reads from and writes to its own swap" },
  { key: "cold", label: "Cold", value: field("cold"), minor: true, about: "what it holds or has in the host's swap and does not touch, and how long ago that was learnt",
    text: (v, guest) => (isNumber(v) ? `${kib(v)}, ${span(guest.fields.working_set_age)} old` : UNKNOWN) },
  { key: "target", label: "Asked for", value: field("balloon_target"), text: kib, minor: true, about: "what mom asked it for last" },
  { key: "guarantee", label: "Guaranteed", value: (guest) => guest.guaranteed_kib ?? undefined, text: kib, minor: true, about: "below this it is not made smaller" },
  { key: "pressure", label: "Pressure", value: pressure, text: (v) => percent(v), minor: true, bad: (v) => v >= 10,
    about: "time that something in it waited for memory, of the last 10 s" },
  { key: "age", label: "Statistics", value: field("stats_age"), text: (v) => (isNumber(v) ? `${span(v)} old` : UNKNOWN), minor: true,
    bad: (v) => v >= 60, about: "age of what the guest said last" },
];

const list = { sort: "name", falling: false, pattern: "" }; // outlives the view

function wanted(guests, pattern) {
  const text = pattern.trim().toLowerCase();
  if (!text) return guests;
  if (!/[*?]/.test(text)) return guests.filter((guest) => guest.name.toLowerCase().includes(text));
  const exact = new RegExp(`^${text.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, "s");
  return guests.filter((guest) => exact.test(guest.name.toLowerCase()));
}

function inOrder(guests) {
  const column = COLUMNS.find((one) => one.key === list.sort);
  const value = column ? column.value : (guest) => guest.name.toLowerCase();
  const sign = list.falling ? -1 : 1;
  return guests.map((guest) => [value(guest), guest]).sort(([a, one], [b, other]) => {
    const known = (isNumber(b) || typeof b === "string") - (isNumber(a) || typeof a === "string"); // what is unknown comes last either way
    if (known) return known;
    if (a !== b && a !== undefined) return (a < b ? -1 : 1) * sign;
    return one.name < other.name ? -1 : 1;
  }).map(([, guest]) => guest);
}

class Row {
  constructor(guest) {
    this.link = h("a", null);
    this.cells = COLUMNS.map((column) => h("td", { class: column.minor ? "number minor" : "number" }));
    this.path = drawn("path");
    const spark = drawn("svg", { class: "spark", viewBox: "0 0 110 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
    this.note = h("td", { class: "note minor" });
    this.element = h("tr", null, h("th", { scope: "row" }, this.link), this.cells, h("td", null, spark), this.note);
    this.link.dataset.guest = guest.id;
    this.link.href = `#/guest/${coded(guest.id)}`;
  }

  show(guest, index, spark) {
    write(this.link, guest.name);
    this.link.title = guest.name;
    this.element.setAttribute("aria-rowindex", index + 2);
    COLUMNS.forEach((column, n) => {
      const value = column.value(guest);
      write(this.cells[n], column.text(value, guest));
      this.cells[n].classList.toggle("bad", Boolean(column.bad && isNumber(value) && column.bad(value)));
    });
    const d = sparkPath(spark ?? []);
    if (this.path.getAttribute("d") !== d) this.path.setAttribute("d", d);
    const note = remarks(guest);
    write(this.note, note);
    this.note.title = note;
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

class GuestsView {
  constructor(mom) {
    this.title = "Guests";
    this.mom = mom;
    this.rows = new Map();
    this.shown = [];
    this.search = h("input", { type: "search", id: "filter", placeholder: "part of a name, or * and ?", "aria-label": "Filter guests by name",
      autocomplete: "off", spellcheck: "false", oninput: () => { list.pattern = this.search.value; this.box.scrollTop = 0; this.update(); },
      onkeydown: (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); this.enter(); } } });
    this.search.value = list.pattern;
    this.count = h("span", { role: "status", class: "faint" });
    const heading = (key, label, about, minor, number) => h("th", { scope: "col", "data-column": key, class: `${number ? "number" : ""} ${minor ? "minor" : ""}` },
      h("button", { type: "button", title: about, onclick: () => this.sortBy(key) }, label));
    this.heads = [heading("name", "Guest", "its name", false, false), ...COLUMNS.map((one) => heading(one.key, one.label, one.about, one.minor, true))];
    this.above = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length + 3 }));
    this.below = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length + 3 }));
    this.body = h("tbody", { onkeydown: (event) => this.key(event) }, this.above, this.below);
    const more = [h("th", { scope: "col", title: "its size in the last cycles" }, "Lately"), h("th", { scope: "col", class: "minor" }, "Remarks")];
    this.table = h("table", { "aria-label": "Guests" }, h("thead", null, h("tr", null, this.heads, more)), this.body);
    this.box = h("div", { class: "scroll guests", tabindex: -1, onscroll: () => this.paint() }, this.table);
    this.element = h("div", null, h("h2", null, "Guests"), h("div", { class: "bar" }, this.search, this.count), this.box);
    this.sized = new ResizeObserver(() => this.paint());
    this.sized.observe(this.box);
  }

  sortBy(key) {
    const natural = key !== "name";
    if (list.sort === key) list.falling = !list.falling;
    else Object.assign(list, { sort: key, falling: natural });
    this.box.scrollTop = 0;
    this.update();
  }

  update() {
    this.shown = inOrder(wanted(this.mom.guests, list.pattern));
    const all = this.mom.guests.length;
    write(this.count, this.shown.length === all ? `${all} guests` : `${this.shown.length} of ${all} guests`);
    for (const head of this.heads) {
      const on = head.dataset.column === list.sort;
      head.setAttribute("aria-sort", on ? (list.falling ? "descending" : "ascending") : "none");
      const button = head.firstChild;
      write(button, button.textContent.replace(/ [↑↓]$/, "") + (on ? (list.falling ? " ↓" : " ↑") : ""));
    }
    this.table.setAttribute("aria-rowcount", this.shown.length + 1);
    this.paint();
  }

  paint() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 8);
    const last = Math.min(this.shown.length, first + Math.ceil((this.box.clientHeight || 600) / ROW) + 16);
    const focused = document.activeElement?.dataset?.guest;
    const here = new Map();
    let next = this.above.nextSibling;
    for (let n = first; n < last; n++) {
      const guest = this.shown[n];
      const row = this.rows.get(guest.id) ?? new Row(guest);
      row.show(guest, n, this.mom.sparks.get(guest.id));
      here.set(guest.id, row);
      if (row.element === next) next = next.nextSibling;
      else this.body.insertBefore(row.element, next);
    }
    for (const [id, row] of this.rows) if (!here.has(id)) row.element.remove();
    this.rows = here;
    this.above.firstChild.style.height = `${first * ROW}px`;
    this.below.firstChild.style.height = `${Math.max(0, this.shown.length - last) * ROW}px`;
    if (focused && document.activeElement?.dataset?.guest !== focused) here.get(focused)?.link.focus({ preventScroll: true });
  }

  // From the filter to what it has found.
  enter() {
    this.box.scrollTop = 0;
    this.paint();
    this.rows.get(this.shown[0]?.id)?.link.focus({ preventScroll: true });
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key];
    const now = this.shown.findIndex((guest) => guest.id === event.target.dataset.guest);
    if (step === undefined || now < 0) return;
    event.preventDefault();
    const then = Math.max(0, Math.min(this.shown.length - 1, now + step));
    const head = this.table.tHead.offsetHeight;
    const top = then * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW + head > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + ROW + head - this.box.clientHeight;
    this.paint();
    this.rows.get(this.shown[then].id)?.link.focus({ preventScroll: true });
  }

  close() { this.sized.disconnect(); }
}
