// What was decided and what came of it, as it happens; all of it, or what is looked for.

import { h, scrolled, write } from "./elements.js";
import { Happenings, TONE, happeningHeads } from "./happenings.js";

/** @import { Done, Mom, Note } from "./known.js" */

const MOST = 200;

/** What is looked for; outlives the view. */
const looked = { text: "", outcome: "" };

/** @param {Done | Note} one */
function wanted(one) {
  if (looked.outcome && !("status" in one && one.status === looked.outcome)) return false;
  const words = "text" in one ? [one.about, one.text] : [one.entity.name, one.control, one.reason, one.error];
  return words.join(" ").toLowerCase().includes(looked.text.trim().toLowerCase());
}

export class DecisionsView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "Decisions";
    this.search = h("input", { type: "search", placeholder: "a guest, a control, or a word of why", "aria-label": "Filter decisions", autocomplete: "off",
      spellcheck: "false", oninput: () => { looked.text = this.search.value; this.update(); } });
    this.search.value = looked.text;
    this.outcomes = h("select", { "aria-label": "Outcome", onchange: () => { looked.outcome = this.outcomes.value; this.update(); } },
      h("option", { value: "" }, "whatever came of it"), Object.keys(TONE).map((one) => h("option", { value: one }, one)));
    this.outcomes.value = looked.outcome;
    this.list = new Happenings(mom, MOST, wanted);
    this.more = h("p", { class: "faint" });
    this.element = h("div", null, h("h2", null, "Decisions and what came of them"), h("div", { class: "bar" }, this.search, this.outcomes),
      scrolled("Decisions", happeningHeads(), this.list.body), this.more);
  }

  update() {
    this.list.update();
    write(this.more, this.mom.leftOut ? `${this.mom.leftOut} more in busy cycles: mom tells of 100 in each.` : "");
  }
}
