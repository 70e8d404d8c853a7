// Table of guests. Only visible rows exist, so a thousand guests cost as much as thirty.

import { sparkPath } from "./charts.js";
import { drawn, emptyState, h, renew, seen, write } from "./elements.js";
import { coded, figure, inNaturalOrder, isNumber, shortened } from "./figures.js";
import { whyUnlisted } from "./known.js";

/** @import { Guest, Mom } from "./known.js" */
/** @typedef {number | string | undefined} Figure unknown is undefined */

const ROW = 32; // pixels, as in the style
const OTHERS = 30; // rem: width of name, sparkline and remarks, as in the style

const NARROW = 760; // pixels, as in the style
const WIDE = 1900; // pixels: from here on, all columns of a terminal fit
const MOST_RANK = 3; // columns of a higher rank are for wide terminals
const WIDTHS = /** @type {Record<string, number>} */ ({ KiB: 5.2, "KiB/s": 5.6, s: 4.4 }); // in em, by unit
const NAME = "name"; // sort by name
const SUFFERING = "suffers"; // sufferers first, as in `mom top`
const LETTERS = 18; // of a name, in a wide window

/** @param {Guest} guest */
const remarks = (guest) => [...new Set([guest.fields["column.remarks"], ...Object.values(guest.blocked)].filter(Boolean))].join("; ");

/** @typedef {Api.GuestColumn} Column */

/** State of the list; it outlives the view. `sort` is the key of a column, `NAME` or `SUFFERING`; `top` is the scroll position. */
const list = { sort: SUFFERING, falling: true, pattern: "", top: 0 };

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

/** @param {Column} column */
const widthOf = (column) => Math.max(WIDTHS[column.unit] ?? 5.6, 1.4 + 0.6 * column.name.length);

/** As many columns as fit in the window, by importance. @param {Column[]} all */
function fitting(all) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  let room = innerWidth / rem - OTHERS - 3;
  const taken = new Set();
  for (const one of all.filter(({ rank }) => innerWidth > WIDE || rank <= MOST_RANK).toSorted((a, b) => a.rank - b.rank)) {
    room -= widthOf(one);
    if (room >= 0 || !one.rank) taken.add(one);
  }
  return all.filter((one) => taken.has(one));
}

class Row {
  /** @param {Column[]} columns */
  constructor(columns) {
    this.columns = columns;
    this.link = h("a", null);
    this.cells = columns.map((column) => h("td", { class: column.rank ? "number minor" : "number" }));
    this.path = drawn("path");
    const spark = drawn("svg", { class: "spark", viewBox: "0 0 110 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
    this.note = h("td", { class: "note minor" });
    this.element = h("tr", null, h("th", { scope: "row" }, this.link), this.cells, h("td", null, spark), this.note);
  }

  /** @param {Guest} guest @param {number} index @param {(number | null)[] | undefined} spark */
  show(guest, index, spark) {
    this.element.setAttribute("aria-rowindex", String(index + 2));
    write(this.link, shortened(guest.name, innerWidth < NARROW ? LETTERS - 5 : LETTERS));
    this.link.title = guest.name;
    this.link.ariaLabel = seen(guest.name);
    this.link.dataset.guest = guest.id;
    this.link.href = `#/guest/${coded(guest.id)}`;
    this.columns.forEach((column, n) => {
      const value = guest.fields[column.key];
      write(this.cells[n], figure(value, column.unit));
      this.cells[n].classList.toggle("bad", column.mark_from !== null && isNumber(value) && value >= column.mark_from);
    });
    const d = sparkPath(spark ?? []);
    if (this.path.getAttribute("d") !== d) this.path.setAttribute("d", d);
    const note = remarks(guest);
    write(this.note, note);
    this.note.title = note;
  }

  focus() {
    this.link.focus({ preventScroll: true });
  }
}

export class GuestsView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.title = "Guests";
    this.mom = mom;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Row[]} */
    this.spare = []; // rows out of sight, for reuse
    /** @type {Guest[]} */
    this.shown = [];
    this.lastFocused = ""; // even while its row is out of sight
    this.columns = fitting(mom.report.guest_columns.filter((one) => one.name !== "remarks"));
    if (!this.columns.some((one) => one.key === list.sort) && list.sort !== NAME) list.sort = SUFFERING;
    this.search = h("input", { type: "search", id: "filter", placeholder: "part of a name, or * and ?", "aria-label": "Filter guests by name",
      autocomplete: "off", spellcheck: "false", oninput: () => { list.pattern = this.search.value; this.box.scrollTop = 0; this.update(); },
      onkeydown: (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); this.enter(); } } });
    this.search.value = list.pattern;
    this.count = h("span", { role: "status", class: "faint" });
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
    this.element = h("div", null, h("h2", null, "Guests"), h("div", { class: "bar" }, this.search, this.count), this.box, this.none);
    let back = list.top; // once there are rows to scroll
    this.sized = new ResizeObserver(() => {
      this.paint();
      if (back && this.box.clientHeight) this.box.scrollTop = back;
      back = 0;
    });
    this.sized.observe(this.box);
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
    this.box.scrollTop = 0;
    this.update();
  }

  update() {
    const found = wanted(this.mom.guests, list.pattern);
    this.shown = inOrder(found);
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
      const guest = this.shown[n];
      let row = this.rows.get(guest.id);
      if (!row || anew) {
        row ??= this.spare.pop() ?? new Row(this.columns);
        row.show(guest, n, this.mom.sparks.get(guest.id));
        this.rows.set(guest.id, row);
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
