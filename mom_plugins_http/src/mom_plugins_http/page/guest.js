// View of one guest: explanation, history and all fields.

import { TONE, actHeads, renewActs } from "./acts.js";
import { Refused, get, said } from "./api.js";
import { Chart } from "./charts.js";
import { h, heads, renew, scrolled, seen, write } from "./elements.js";
import { amount, coded, kibPerSecond } from "./figures.js";
import { PARTS, expectedKib, memoryParts } from "./guest_memory.js";
import { declaredFields } from "./known.js";
import { PastDays } from "./recorded.js";

/** @import { Mom } from "./known.js" */

const KEPT_SAMPLES = 720;
const LISTED_ACTS = 100;

/** @type {Record<string, string>} */
const TOPICS = { now: "Now", needs: "Needs", class: "Class", guaranteed: "Guaranteed", since: "Since", host: "The host", wanted: "Wanted",
  why: "Why", review: "Review", done: "Done", problems: "Problems", next: "Next", days: "Days", unknown: "Not known", trial: "On trial" };

export class GuestView {
  /** @param {Mom} mom @param {string} id */
  constructor(mom, id) {
    this.mom = mom;
    this.path = `v1/guests/${coded(id)}`;
    this.query = coded(id);
    this.title = "Guest";
    this.asking = false;
    /** @type {Api.PastGuest[]} */
    this.past = []; // oldest first
    this.name = h("h2", null, "Guest");
    this.told = h("dl", { class: "told" });
    this.trouble = h("p", { class: "notice", hidden: true });
    /** @type {Api.Act[]} */
    this.acts = [];
    this.days = new PastDays(id, () => this.draw(), () => mom.report.interval_seconds);
    this.memory = new Chart("Memory, and what was decided", this.days, { kind: "areas", height: 260 });
    this.swap = new Chart("Swapped in", this.days, { least: 64, text: kibPerSecond });
    this.done = h("tbody", { class: "acts" });
    this.known = h("tbody");
    this.element = h("div", null, h("p", null, h("a", { href: "#/guests" }, "← all guests")), this.name, this.trouble,
      h("h3", null, "Why it has this size"), this.told, this.days.element, this.memory.element, this.swap.element,
      h("h3", null, "Decided in the last cycles"), scrolled("Decided in the last cycles", actHeads(false), this.done),
      h("h3", null, "All fields"), scrolled("All fields", heads("Field", "Value", "Meaning"), this.known));
  }

  async update() {
    if (this.asking) return;
    this.asking = true;
    this.days.update(); // may be slow
    try {
      const [guest, explanation, acts, fields] = await Promise.all([get(this.path), get(`${this.path}/explanation`),
        get(`v1/acts?limit=${LISTED_ACTS}&guest=${this.query}`), declaredFields(), this.goOn()]);
      this.trouble.hidden = true;
      this.acts = acts.items;
      this.show(guest, explanation, fields);
    } catch (error) {
      this.trouble.hidden = false;
      write(this.trouble, error instanceof Refused && error.status === 404 ? `${error.message}. The guest may have been stopped, or moved to another host.` : said(error));
    } finally {
      this.asking = false;
    }
  }

  /** Load the guest's cycles since the last request. */
  async goOn() {
    const last = this.past.at(-1);
    const begun = last && last.time >= this.mom.report.started_at;
    const missed = begun ? Math.max(1, this.mom.report.cycle.number - last.cycle + 1) : KEPT_SAMPLES;
    /** @type {Api.PastGuest[]} */
    const items = (await get(`${this.path}/history?limit=${Math.min(missed, KEPT_SAMPLES)}`)).items.reverse();
    const first = items[0]?.time ?? Infinity;
    this.past = [...this.past.filter((one) => one.time < first), ...items].slice(-KEPT_SAMPLES);
  }

  /** @param {Api.Guest} guest @param {Api.Explanation} explanation @param {Map<string, Api.Field>} fields */
  show(guest, explanation, fields) {
    write(this.name, guest.name);
    this.title = guest.name;
    document.title = seen(`${guest.name} – mom`);
    let topic = "";
    renew(this.told, explanation.sentences.flatMap((sentence) => {
      const label = sentence.topic === topic ? "" : TOPICS[sentence.topic] ?? sentence.topic;
      topic = sentence.topic;
      return [h("dt", null, label), h("dd", null, sentence.text)];
    }));
    this.draw();
    renewActs(this.done, this.acts, "Nothing in the period that mom keeps.", false);
    const known = Object.entries(guest.fields).filter(([, value]) => value !== null).sort(([a], [b]) => (a < b ? -1 : 1));
    renew(this.known, known.map(([name, value]) => {
      const spec = fields.get(`guest.${name}`);
      return h("tr", { "data-key": name }, h("th", { scope: "row" }, name), h("td", null, amount(value, spec?.unit)), h("td", { class: "faint" }, spec?.description));
    }));
  }

  draw() {
    const past = this.days.items?.map((one) => ({ time: one.time, fields: one.guest ?? {} })) ?? this.past;
    const times = past.map((sample) => sample.time);
    /** @param {string} name */
    const values = (name) => past.map((sample) => sample.fields[name]);
    const parts = past.map((sample) => memoryParts(sample.fields));
    const layers = PARTS.map(([name, label]) => ({ label, look: `${name}-fill`, values: parts.map((one) => one[name]) }))
      .filter((layer) => layer.values.some((value) => value !== null));
    this.memory.live = this.swap.live = this.days.items === null;
    const { shown } = this.days;
    const expected = past.map((sample) => expectedKib(sample.fields));
    /** @type {import("./charts.js").Layer[]} */
    const lines = [{ label: "most", look: "total", line: true, values: values("balloon_max") }];
    if (expected.some((value) => value !== null)) lines.push({ label: "usual use at that time", look: "expected", line: true, values: expected });
    this.memory.show(times, [...layers, ...lines], { ...shown, marks: this.acts.map(({ since, text, status }) => ({ time: since, text, tone: TONE[status] ?? "" })) });
    this.swap.show(times, [{ label: "swapped in", look: "stroke-1", values: values("swap_in") }], shown);
  }
}
