// Past days, where the plugin record keeps them: more than the cycles that mom itself remembers.

import { get, said } from "./api.js";
import { h, write } from "./elements.js";
import { coded } from "./figures.js";

const AGAIN_MS = 300000; // until newer points of the same time are asked for
const POINTS = 400;

/** @type {[string, string][]} */
const SPANS = [["", "the last cycles"], ["21600", "6 hours"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"]];

/** What is chosen; outlives the view. */
const chosen = { seconds: "" };

export class PastDays {
  /** @param {string} guest its id; empty: only the host is looked at @param {() => void} show what is known now */
  constructor(guest, show) {
    this.guest = guest;
    this.show = show;
    /** @type {Api.Recorded[] | null} */
    this.items = null; // null: the last cycles are to be shown
    this.asked = -Infinity;
    const choice = h("select", { onchange: () => this.choose(choice.value) }, SPANS.map(([seconds, label]) => h("option", { value: seconds, selected: seconds === chosen.seconds }, label)));
    this.said = h("span", { role: "status", class: "warn" });
    this.element = h("div", { class: "bar" }, h("label", null, "Show ", choice), this.said);
  }

  /** @param {string} seconds */
  choose(seconds) {
    chosen.seconds = seconds;
    this.asked = -Infinity;
    return this.update();
  }

  /** Asks for what is chosen, where it is not there or has become old. */
  async update() {
    const { seconds } = chosen;
    if (!seconds) {
      const had = this.items !== null;
      this.items = null;
      write(this.said, "");
      if (had) this.show();
      return;
    }
    if (performance.now() - this.asked < AGAIN_MS) return;
    this.asked = performance.now();
    if (!this.items) write(this.said, "The recording is being read …");
    try {
      const { items } = await get(`v1/recorded?seconds=${seconds}&limit=${POINTS}${this.guest && `&guest=${coded(this.guest)}`}`);
      if (seconds !== chosen.seconds) return; // another choice was made meanwhile
      this.items = items;
      write(this.said, "");
    } catch (error) {
      this.items = null;
      write(this.said, said(error));
    }
    this.show();
  }
}
