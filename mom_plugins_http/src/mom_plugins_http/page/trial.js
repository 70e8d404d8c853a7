// Policies on some guests first: begun, watched, put in force for all or given up.

import { Refused, ask, get, said } from "./api.js";
import { h, heads, renew, scrolled, write } from "./elements.js";
import { moment, percent, span } from "./figures.js";

const RUNS = "running";
const LOOK_MS = 5000; // between two looks at one that runs

export class Trial {
  /**
   * @param {boolean} may begin and end one
   * @param {() => { changes: Record<string, string>, tag: string } | null} wanted what is to be tried, and the version that was seen; null: nothing
   * @param {(what: () => Promise<void>) => Promise<void>} changing does what begins or ends one
   */
  constructor(may, wanted, changing) {
    this.may = may;
    this.wanted = wanted;
    this.changing = changing;
    this.runs = false;
    this.looked = 0;
    this.state = h("p");
    this.groups = h("tbody");
    this.message = h("div", { class: "notice bad", role: "alert", hidden: true });
    this.table = scrolled("How guests fare", heads("Guests", "How many", "Samples", "Known", "Unhealthy", "Programs killed"), this.groups);
    this.promote = h("button", { type: "button", onclick: () => this.end("POST", "v1/policy-canary/promotion", "Put what is tried in force for all guests now?") }, "For all guests now");
    this.abort = h("button", { type: "button", onclick: () => this.end("DELETE", "v1/policy-canary", "End the trial, so that nothing changes?") }, "End the trial");
    this.ending = h("div", { class: "bar", hidden: true }, this.promote, this.abort);
    this.share = h("input", { value: "10%", size: 6, autocomplete: "off" });
    this.pattern = h("input", { placeholder: "db-*", size: 12, autocomplete: "off" });
    this.duration = h("input", { value: "10m", size: 6, required: true, autocomplete: "off" });
    this.beginning = h("form", { class: "bar", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      this.begin();
    } }, h("label", null, "What is in the editor, on a share ", this.share), h("label", null, "or on the guests ", this.pattern), h("label", null, "for ", this.duration),
    h("button", { type: "submit" }, "Try it"));
    this.element = h("section", { "aria-label": "Trial" }, h("h3", null, "Trial on some guests"), this.message, this.state, this.table, may && this.ending, may && this.beginning);
  }

  async load() {
    try {
      this.show((await get("v1/policy-canary")).canary);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.element.hidden = true; // no enabled plugin tries policies
    }
  }

  /** A cycle has ended. */
  async update() {
    if (this.runs && performance.now() - this.looked >= LOOK_MS) await this.load();
  }

  /** @param {Api.Canary | null} one */
  show(one) {
    const runs = one?.state === RUNS;
    this.runs = runs;
    this.looked = performance.now();
    this.ending.hidden = !runs;
    this.beginning.hidden = runs;
    this.table.hidden = !one;
    if (!one) {
      renew(this.state, "There was none.");
      return;
    }
    const whom = one.share === null ? one.guests : percent(one.share * 100, 0);
    renew(this.state, h("strong", { class: runs ? "warn" : "" }, one.state), ` ${one.what}, by ${one.who}, on ${whom} (${one.on.length} guests), since ${moment(one.began_at)}`,
      runs ? `: ${span(one.left_seconds)} of ${span(one.duration_seconds)} are left` : "", one.reason && `; ${one.reason}`, one.note && `; ${one.note}`);
    renew(this.groups, group("with it", one.canary), group("the same before", one.before), group("all others", one.others));
  }

  async begin() {
    const wanted = this.wanted();
    if (!wanted) {
      this.complain("There is nothing to try: what is in the editor is in force.");
      return;
    }
    const whom = this.pattern.value.trim() ? { guests: this.pattern.value.trim() } : { share: this.share.value.trim() };
    await this.change("POST", "v1/policy-canary", wanted.tag, { changes: wanted.changes, duration: this.duration.value.trim(), ...whom });
  }

  /** @param {string} method @param {string} path @param {string} question */
  async end(method, path, question) {
    if (confirm(question)) await this.change(method, path, "*");
  }

  /** @param {string} method @param {string} path @param {string} seen @param {unknown} [body] */
  async change(method, path, seen, body) {
    this.message.hidden = true;
    // The next one is for a person who sees what came of this one.
    const buttons = this.element.querySelectorAll("button");
    for (const one of buttons) one.disabled = true;
    try {
      await this.changing(async () => this.show((await ask(method, path, { seen, body })).content.canary));
    } catch (error) {
      this.complain(said(error));
    } finally {
      for (const one of buttons) one.disabled = false;
    }
  }

  /** @param {string} text */
  complain(text) {
    this.message.hidden = false;
    write(this.message, text);
  }
}

/** @param {string} label @param {Api.CanaryGroup} one */
function group(label, one) {
  const unhealthy = one.known ? percent((100 * one.unhealthy) / one.known) : "unknown";
  return h("tr", { "data-key": label }, h("th", { scope: "row" }, label), h("td", null, one.guests), h("td", null, one.samples), h("td", null, one.known), h("td", null, unhealthy), h("td", null, one.killed));
}
