// What was decided and what came of it, as it happens.

import { h, renew, scrolled, write } from "./elements.js";
import { happeningHeads, recent } from "./happenings.js";

/** @import { Mom } from "./known.js" */

export class DecisionsView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "Decisions";
    this.body = h("tbody");
    this.more = h("p", { class: "faint" });
    this.element = h("div", null, h("h2", null, "Decisions and what came of them"), scrolled("Decisions", happeningHeads(), this.body), this.more);
  }

  update() {
    renew(this.body, recent(this.mom, 200));
    write(this.more, this.mom.leftOut ? `${this.mom.leftOut} more in busy cycles: mom tells of 100 in each.` : "");
  }
}
