// Choice of time: the last cycles from mom, or past days from the record plugin.

import { get, said } from "./api.js";
import { Together } from "./charts.js";
import { h, write } from "./elements.js";
import { coded } from "./figures.js";

/** @import { Time } from "./charts.js" */

const AGAIN_MS = 300000; // between two requests: as often as the recorder writes
const POINTS = 700;
const MINUTE = 60; // seconds: resolution of a host's past days
const GROUP = 30; // past days of a guest may contain only one cycle in this many

/** @type {[string, string][]} */
const SPANS = [["", "the last cycles"], ["3600", "an hour"], ["21600", "6 hours"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"], ["chosen", "from … to …"]];

/** The choice; it outlives the view. */
const chosen = { span: "", from: 0, to: 0 };

export class PastDays extends Together {
  /** @param {string} guest its id; empty for the host @param {() => void} show redraws @param {() => number} interval seconds from cycle to cycle */
  constructor(guest, show, interval) {
    super(() => {
      this.asked = -Infinity;
      this.update();
      show();
    });
    this.guest = guest;
    this.show = show;
    this.interval = interval;
    /** @type {Api.Recorded[] | null} */
    this.items = null; // null: show the last cycles
    this.asked = -Infinity;
    this.choice = h("select", { onchange: () => this.choose(this.choice.value) }, SPANS.map(([span, label]) => h("option", { value: span, selected: span === chosen.span }, label)));
    this.from = h("input", { type: "datetime-local", onchange: () => this.choose("chosen") });
    this.to = h("input", { type: "datetime-local", onchange: () => this.choose("chosen") });
    this.ends = h("span", { class: "bar", hidden: true }, h("label", null, "from ", this.from), h("label", null, "to ", this.to));
    this.whole = h("button", { type: "button", hidden: true, onclick: () => this.back(true) }, "Back to the whole period");
    this.said = h("span", { role: "status", class: "warn" });
    this.element = h("div", { class: "bar" }, h("label", null, "Show ", this.choice), this.ends, this.whole, this.said);
  }

  /** Whole time before a zoom; null: the last cycles. @returns {Time | null} */
  get span() {
    if (chosen.span === "chosen") return [chosen.from, chosen.to];
    const now = Date.now() / 1000;
    return chosen.span ? [now - Number(chosen.span), now] : null;
  }

  /** Period and gap for `Chart.show`. */
  get shown() {
    const { items, span } = this;
    const [from, to] = this.part ?? span ?? [0, 0];
    const apart = items ? Math.max(this.interval() * (this.guest ? GROUP : 1), MINUTE, (to - from) / POINTS) : this.interval();
    return { span: items && span, gap: 4 * apart };
  }

  /** @param {string} span */
  choose(span) {
    const now = Date.now() / 1000;
    if (span === "chosen") {
      const [from, to] = [this.from, this.to].map((one) => new Date(one.value).getTime() / 1000);
      const [before, until] = this.part ?? this.span ?? [now - 3600, now];
      Object.assign(chosen, from < to ? { from, to } : { from: before, to: until });
    }
    chosen.span = span;
    this.parts = [];
    this.asked = -Infinity;
    return this.update();
  }

  /** Request the chosen time if it is missing or old. */
  async update() {
    const { span, part } = this;
    this.whole.hidden = !part;
    this.ends.hidden = chosen.span !== "chosen";
    if (!this.ends.hidden && !this.ends.contains(document.activeElement)) [this.from.value, this.to.value] = [chosen.from, chosen.to].map(written);
    if (!span) {
      const had = this.items !== null;
      this.items = null;
      write(this.said, "");
      if (had) this.show();
      return;
    }
    if (performance.now() - this.asked < AGAIN_MS) return;
    const asked = performance.now();
    this.asked = asked;
    if (!this.items) write(this.said, "Reading the recording …");
    try {
      const [from, to] = part ?? span;
      const { items } = await get(`v1/recorded?seconds=${Math.max(MINUTE, Math.ceil(to - from))}&until=${Math.ceil(to)}&limit=${POINTS}${this.guest && `&guest=${coded(this.guest)}`}`);
      if (asked !== this.asked) return; // the choice has changed since
      this.items = items;
      write(this.said, "");
    } catch (error) {
      if (asked !== this.asked) return;
      this.items = null;
      write(this.said, said(error));
    }
    this.show();
  }
}

/** A time in the format of an input field. @param {number} time */
const written = (time) => new Date((time - new Date(time * 1000).getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 16);
