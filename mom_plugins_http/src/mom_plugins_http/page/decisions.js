// Acts of mom: all of them, or those that match a filter.

import { TONE, actHeads, renewActs } from "./acts.js";
import { get } from "./api.js";
import { h, scrolled } from "./elements.js";

const MOST = 200;

/** The filter; it outlives the view. */
const looked = { text: "", outcome: "" };

/** @param {Api.Act} act */
const wanted = (act) => (!looked.outcome || act.status === looked.outcome) && `${act.who} ${act.control} ${act.text}`.toLowerCase().includes(looked.text.trim().toLowerCase());

export class DecisionsView {
  constructor() {
    this.title = "Decisions";
    /** @type {Api.Act[]} */
    this.acts = [];
    this.search = h("input", { type: "search", placeholder: "a guest, a control, or a word of the reason", "aria-label": "Filter decisions", autocomplete: "off",
      spellcheck: "false", oninput: () => { looked.text = this.search.value; this.show(); } });
    this.search.value = looked.text;
    this.outcomes = h("select", { "aria-label": "Outcome", onchange: () => { looked.outcome = this.outcomes.value; this.show(); } },
      h("option", { value: "" }, "any outcome"), Object.keys(TONE).map((one) => h("option", { value: one }, one)));
    this.outcomes.value = looked.outcome;
    this.body = h("tbody", { class: "acts" });
    this.element = h("div", null, h("h2", null, "What mom did"), h("div", { class: "bar" }, this.search, this.outcomes), scrolled("Decisions", actHeads(), this.body));
  }

  async update() {
    this.acts = (await get(`v1/acts?limit=${MOST}`)).items;
    this.show();
  }

  show() {
    renewActs(this.body, this.acts.filter(wanted), `Nothing${this.acts.length ? " of that kind" : ""} in the period that mom keeps.`);
  }

  /** Changes of policies and reservations are acts, too. */
  tell() { return this.update(); }
}
