// Table of guests. Only visible rows exist, so a thousand guests cost as much as thirty.

import { sparkPath } from "./charts.js";
import { drawn, emptyState, h, renew, seen, write } from "./elements.js";
import { UNKNOWN, coded, figure, inNaturalOrder, isNumber, shortened, sum } from "./figures.js";
import { whyUnlisted } from "./known.js";

/** @import { Guest, Mom } from "./known.js" */
/** @typedef {number | string | undefined} Figure unknown is undefined */
/** @typedef {{ id: string, guest: Guest, name: string, guests: null }} OneGuest */
/** @typedef {{ id: string, guest: null, name: string, guests: Guest[] }} Group */

const ROW = 32; // pixels, as in the style
const OTHERS = 30; // rem: width of name, sparkline and remarks, as in the style

const NARROW = 760; // pixels, as in the style
const WIDE = 1900; // pixels: from here on, all columns of a terminal fit
const MOST_RANK = 3; // columns of a higher rank are for wide terminals
const WIDTHS = /** @type {Record<string, number>} */ ({ KiB: 5.2, "KiB/s": 5.6, s: 4.4 }); // in em, by unit
const NAME = "name"; // sort by name
const SUFFERING = "suffers"; // sufferers first, as in `mom top`
const LETTERS = 18; // of a name, in a wide window
const SUMMED = ["KiB", "KiB/s"]; // units that groups sum up

/** @param {Guest} guest */
const remarks = (guest) => [...new Set([guest.fields["column.remarks"], ...Object.values(guest.blocked)].filter(Boolean))].join("; ");

/** @typedef {Api.GuestColumn} Column */

/** Groupings of guests: label, and the group of a guest. @type {Record<string, [string, (guest: Guest) => string]>} */
const GROUPS = {
  class: ["by class", (guest) => guest.fields.sla_class ?? "no class"],
  name: ["by name", (guest) => guest.name.replace(/[-_.]?[0-9]+$/, "") || guest.name],
};

/**
 * State of the list; it outlives the view. `sort` is the key of a column, `NAME` or `SUFFERING`. `closed` are folded groups; `top` is the
 * scroll position; `columns` forces columns on (true) or off (false) by name.
 */
const list = { sort: SUFFERING, falling: true, pattern: "", by: "", closed: new Set(), top: 0, choosing: false, columns: /** @type {Record<string, boolean>} */ ({}) };
const KEPT = /** @type {const} */ (["sort", "falling", "by", "columns"]); // over a reload
const STORE = "mom-guests";

try {
  const kept = JSON.parse(localStorage.getItem(STORE) ?? "{}");
  for (const name of KEPT) if (typeof kept?.[name] === typeof list[name]) Object.assign(list, { [name]: kept[name] });
} catch { /* no storage, or invalid content */ }

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(KEPT.map((name) => [name, list[name]]))));
  } catch { /* then the choice lasts only until a reload */ }
}

/** @param {Guest[]} guests @param {string} pattern */
export function wanted(guests, pattern) {
  const text = pattern.trim().toLowerCase();
  if (!text) return guests;
  if (!/[*?]/.test(text)) return guests.filter((guest) => guest.name.toLowerCase().includes(text));
  const exact = new RegExp(`^${text.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, "s");
  return guests.filter((guest) => exact.test(guest.name.toLowerCase()));
}

/** @param {Guest[]} guests */
function inOrder(guests) {
  const sign = list.falling ? -1 : 1;
  if (list.sort === NAME) return guests.toSorted((one, other) => inNaturalOrder(one.name, other.name) * sign);
  /** @param {Guest} guest @returns {Figure} */
  const valueOf = ({ fields }) => (list.sort === SUFFERING ? (fields.suffers ? 0.5 : 0) + (fields.killed_lately ?? 0) : fields[list.sort]);
  return guests.map((guest) => ({ value: valueOf(guest), guest })).sort(({ value: a, guest: one }, { value: b, guest: other }) => {
    const known = Number(b !== undefined) - Number(a !== undefined); // unknown values come last in either order
    if (known) return known;
    if (a !== b && a !== undefined && b !== undefined) return (a < b ? -1 : 1) * sign;
    return inNaturalOrder(one.name, other.name);
  }).map(({ guest }) => guest);
}

/**
 * Guests in groups, each below the row of its group.
 * @param {Guest[]} guests in their order
 * @param {string} by one of `GROUPS`; empty: no groups
 * @param {Set<string>} closed
 * @returns {(OneGuest | Group)[]}
 */
export function entries(guests, by, closed) {
  /** @type {(guest: Guest) => OneGuest} */
  const alone = (guest) => ({ id: guest.id, guest, name: guest.name, guests: null });
  if (!GROUPS[by]) return guests.map(alone);
  /** @type {Map<string, Guest[]>} */
  const groups = new Map();
  for (const guest of guests) {
    const name = GROUPS[by][1](guest);
    const known = groups.get(name);
    if (known) known.push(guest);
    else groups.set(name, [guest]);
  }
  return [...groups].sort(([one], [other]) => inNaturalOrder(one, other)).flatMap(([name, those]) => [
    { id: `group\n${name}`, guest: null, name, guests: those }, ...(closed.has(name) ? [] : those.map(alone))]);
}

/** The sum over a group in words, with `≥` if the value of a guest is unknown. @param {Column} column @param {Guest[]} guests */
function together(column, guests) {
  if (!SUMMED.includes(column.unit)) return "";
  const values = guests.map((guest) => guest.fields[column.key]);
  const known = sum(values);
  return known === null ? UNKNOWN : `${values.every(isNumber) ? "" : "≥ "}${figure(known, column.unit)}`;
}

/** @param {Column} column */
const widthOf = (column) => Math.max(WIDTHS[column.unit] ?? 5.6, 1.4 + 0.6 * column.name.length);

/** The requested columns, and as many others as fit in the window, by importance. @param {Column[]} all */
function fitting(all) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  let room = innerWidth / rem - OTHERS - 3;
  const wide = innerWidth > WIDE;
  const taken = new Set();
  const order = all.filter((one) => list.columns[one.name] ?? (wide || one.rank <= MOST_RANK))
    .toSorted((one, other) => Number(list.columns[other.name] ?? 0) - Number(list.columns[one.name] ?? 0) || one.rank - other.rank);
  for (const one of order) {
    room -= widthOf(one);
    if (room >= 0 || list.columns[one.name] || !one.rank) taken.add(one);
  }
  return all.filter((one) => taken.has(one));
}

class Row {
  /** @param {Column[]} columns @param {(name: string) => void} turn opens or closes a group */
  constructor(columns, turn) {
    this.columns = columns;
    this.group = "";
    this.link = h("a", null);
    this.opener = h("button", { type: "button", hidden: true, onclick: () => turn(this.group) });
    this.cells = columns.map((column) => h("td", { class: column.rank ? "number minor" : "number" }));
    this.path = drawn("path");
    const spark = drawn("svg", { class: "spark", viewBox: "0 0 110 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
    this.note = h("td", { class: "note minor" });
    this.element = h("tr", null, h("th", { scope: "row" }, this.link, this.opener), this.cells, h("td", null, spark), this.note);
  }

  /** @param {OneGuest | Group} entry @param {number} index @param {(number | null)[] | undefined} spark */
  show(entry, index, spark) {
    const { guest, guests } = entry;
    this.element.setAttribute("aria-rowindex", String(index + 2));
    this.element.classList.toggle("group", !guest);
    this.link.hidden = !guest;
    this.opener.hidden = Boolean(guest);
    if (guest) {
      write(this.link, shortened(guest.name, innerWidth < NARROW ? LETTERS - 5 : LETTERS));
      this.link.title = guest.name;
      this.link.ariaLabel = seen(guest.name);
      this.link.dataset.guest = guest.id;
      this.link.href = `#/guest/${coded(guest.id)}`;
    } else {
      const closed = list.closed.has(entry.name);
      this.group = entry.name;
      this.opener.dataset.guest = entry.id;
      this.opener.setAttribute("aria-expanded", String(!closed));
      write(this.opener, `${closed ? "▸" : "▾"} ${entry.name} (${guests.length})`);
    }
    this.columns.forEach((column, n) => {
      const value = guest?.fields[column.key];
      write(this.cells[n], guest ? figure(value, column.unit) : together(column, guests));
      this.cells[n].classList.toggle("bad", column.mark_from !== null && isNumber(value) && value >= column.mark_from);
    });
    const d = sparkPath(spark ?? []);
    if (this.path.getAttribute("d") !== d) this.path.setAttribute("d", d);
    const note = guest ? remarks(guest) : "";
    write(this.note, note);
    this.note.title = note;
  }

  focus() {
    (this.link.hidden ? this.opener : this.link).focus({ preventScroll: true });
  }
}

export class GuestsView {
  /** @param {Mom} mom @param {() => void} again rebuilds the view, for other columns */
  constructor(mom, again) {
    this.title = "Guests";
    this.mom = mom;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Row[]} */
    this.spare = []; // rows out of sight, for reuse
    /** @type {(OneGuest | Group)[]} */
    this.shown = [];
    this.lastFocused = ""; // even while its row is out of sight
    const declared = mom.report.fields;
    const offered = mom.report.guest_columns.filter((one) => one.name !== "remarks");
    this.columns = fitting(offered);
    if (!this.columns.some((one) => one.key === list.sort) && list.sort !== NAME) list.sort = SUFFERING;
    this.search = h("input", { type: "search", id: "filter", placeholder: "part of a name, or * and ?", "aria-label": "Filter guests by name",
      autocomplete: "off", spellcheck: "false", oninput: () => { list.pattern = this.search.value; this.box.scrollTop = 0; this.update(); },
      onkeydown: (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); this.enter(); } } });
    this.search.value = list.pattern;
    const ways = Object.entries(GROUPS).filter(([by]) => by !== "class" || "guest.sla_class" in declared);
    this.groups = h("select", { "aria-label": "Groups of guests", onchange: () => this.groupBy(this.groups.value) }, h("option", { value: "" }, "in no groups"),
      ways.map(([by, [label]]) => h("option", { value: by }, label)));
    this.groups.value = list.by;
    this.count = h("span", { role: "status", class: "faint" });
    const chosen = offered.map((one) => h("label", { title: one.about }, h("input", { type: "checkbox", checked: this.columns.includes(one),
      onchange: (/** @type {Event & { target: HTMLInputElement }} */ event) => { list.columns[one.name] = event.target.checked; keep(); again(); } }), ` ${one.name}`));
    const chooser = h("details", { class: "chooser", open: list.choosing, ontoggle: () => { list.choosing = chooser.open; } }, h("summary", null, "Columns"), h("div", null, chosen));
    const remarked = this.heading(SUFFERING, "Remarks", "what the guest suffers from, or why it cannot release memory", "minor");
    this.heads = [this.heading(NAME, "Guest", "the guest's name", ""), ...this.columns.map((one) => this.heading(one.key, one.name[0].toUpperCase() + one.name.slice(1), one.about, one.rank ? "number minor" : "number", widthOf(one))), remarked];
    this.spaces = [h("td"), h("td")]; // one column only: further columns would take width in a narrow window
    this.above = h("tr", { class: "space", "aria-hidden": "true" }, this.spaces[0]);
    this.below = h("tr", { class: "space", "aria-hidden": "true" }, this.spaces[1]);
    this.body = h("tbody", null, this.above, this.below);
    const spark = h("th", { scope: "col", title: "the guest's size in the last cycles" }, "Lately");
    this.table = h("table", { "aria-label": "Guests" }, h("thead", null, h("tr", null, this.heads.slice(0, -1).map((one) => one.element), spark, remarked.element)), this.body);
    this.table.style.minWidth = `${this.columns.reduce((all, one) => all + widthOf(one), OTHERS)}rem`;
    this.box = h("div", { class: "scroll guests", role: "region", "aria-label": "All guests", tabindex: 0, onscroll: () => { list.top = this.box.scrollTop; this.paint(false); },
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event), onfocusin: () => { this.lastFocused = focusedGuest() ?? this.lastFocused; } }, this.table);
    this.none = h("div");
    this.element = h("div", null, h("h2", null, "Guests"), h("div", { class: "bar" }, this.search, this.groups, chooser, this.count), this.box, this.none);
    let back = list.top; // once there are rows to scroll
    this.sized = new ResizeObserver(() => {
      this.paint();
      if (back && this.box.clientHeight) this.box.scrollTop = back;
      back = 0;
    });
    this.sized.observe(this.box);
  }

  /** @param {string} by */
  groupBy(by) {
    list.by = by;
    keep();
    this.box.scrollTop = 0;
    this.update();
  }

  /** Opens or closes a group. @param {string} name */
  turn(name) {
    if (!list.closed.delete(name)) list.closed.add(name);
    this.update();
  }

  /** @param {string} key @param {string} label @param {string} about @param {string} look @param {number} [width] */
  heading(key, label, about, look, width) {
    const button = h("button", { type: "button", title: about, onclick: () => this.sortBy(key) }, label);
    const element = h("th", { scope: "col", class: look }, button);
    if (width) element.style.width = `${width}rem`;
    return { key, label, button, element };
  }

  /** @param {string} key */
  sortBy(key) {
    if (list.sort === key) list.falling = !list.falling;
    else Object.assign(list, { sort: key, falling: key !== NAME });
    keep();
    this.box.scrollTop = 0;
    this.update();
  }

  update() {
    const found = wanted(this.mom.guests, list.pattern);
    this.shown = entries(inOrder(found), list.by, list.closed);
    const all = this.mom.guests.length;
    const unlisted = whyUnlisted(this.mom.report);
    renew(this.none, unlisted ? emptyState("!", "The guests are unknown", `${unlisted}. They appear here as soon as the hypervisor lists them. For details:`, h("pre", null, "mom doctor"))
      : emptyState("i", "There are no guests on this host", "They appear here as they start. If guests are running, this command shows what mom cannot reach:", h("pre", null, "mom doctor")));
    write(this.count, unlisted ? "" : found.length === all ? `${all} guests` : `${found.length} of ${all} guests`);
    this.box.hidden = !all;
    this.none.hidden = all > 0;
    for (const { key, label, button, element } of this.heads) {
      const on = key === list.sort;
      element.setAttribute("aria-sort", on ? (list.falling ? "descending" : "ascending") : "none");
      write(button, `${label}${on ? (list.falling ? " ↓" : " ↑") : ""}`);
    }
    this.table.setAttribute("aria-rowcount", String(this.shown.length + 1));
    this.paint();
  }

  /** Make the visible rows. @param {boolean} anew also existing ones: their figures have changed */
  paint(anew = true) {
    const first = Math.max(0, Math.min(Math.floor(this.box.scrollTop / ROW) - 8, this.shown.length));
    const last = Math.min(this.shown.length, first + Math.ceil((this.box.clientHeight || 600) / ROW) + 16);
    const focused = focusedGuest();
    const wantedIds = new Set(this.shown.slice(first, last).map((one) => one.id));
    // Focus the table, so that arrow keys still work. Do this first: a layout during the changes would scroll elsewhere.
    if (focused && this.rows.has(focused) && !wantedIds.has(focused)) this.box.focus({ preventScroll: true });
    for (const [id, row] of this.rows) {
      if (wantedIds.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
      this.spare.push(row);
    }
    let next = this.above.nextSibling;
    for (let n = first; n < last; n++) {
      const entry = this.shown[n];
      let row = this.rows.get(entry.id);
      if (!row || anew) {
        row ??= this.spare.pop() ?? new Row(this.columns, (name) => this.turn(name));
        row.show(entry, n, entry.guest ? this.mom.sparks.get(entry.id) : undefined);
        this.rows.set(entry.id, row);
      }
      if (row.element === next) next = row.element.nextSibling;
      else this.body.insertBefore(row.element, next);
    }
    this.spaces[0].style.height = `${first * ROW}px`;
    this.spaces[1].style.height = `${Math.max(0, this.shown.length - last) * ROW}px`;
    if (focused && wantedIds.has(focused) && focusedGuest() !== focused) this.rows.get(focused)?.focus();
  }

  /** Go from the filter to its first result. */
  enter() {
    this.box.scrollTop = 0;
    this.paint();
    this.rows.get(this.shown[0]?.id)?.focus();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key];
    const now = this.shown.findIndex((one) => one.id === (focusedGuest() ?? this.lastFocused));
    if (step === undefined || now < 0) return;
    event.preventDefault();
    const then = Math.max(0, Math.min(this.shown.length - 1, now + step));
    const head = this.table.tHead?.offsetHeight ?? 0;
    const top = then * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW + head > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + ROW + head - this.box.clientHeight;
    this.paint(false);
    this.rows.get(this.shown[then].id)?.focus();
  }

  close() { this.sized.disconnect(); }
}

/** Id of the guest with the focused link. */
const focusedGuest = () => (document.activeElement instanceof HTMLElement ? document.activeElement.dataset.guest : undefined);
