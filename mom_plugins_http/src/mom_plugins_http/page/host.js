// The host: what of its memory is where, what is wrong, and what was done lately.

import { Chart } from "./charts.js";
import { h, renew, scrolled, tile } from "./elements.js";
import { coded, inNaturalOrder, isNumber, kib, percent, span, sum } from "./figures.js";
import { Happenings, conditionItems, happeningHeads, problemItems } from "./happenings.js";
import { PastDays } from "./recorded.js";

/** @import { Guest, Mom, Sample } from "./known.js" */

const NAMED = 8; // guests that suffer: more do not fit beside the chart

/**
 * The host's memory in parts that add up: what guests hold is counted with what KSM merged, which is there only once.
 * @param {Pick<Sample, "fields" | "guests_together">} sample
 */
export function parts(sample) {
  const { mem_available: total, mem_really_available: free, ksm_saved: merged } = sample.fields;
  const used = total - free;
  const saved = isNumber(merged) ? Math.max(0, merged) : null;
  const held = sample.guests_together?.rss;
  const guests = isNumber(held) ? Math.max(0, Math.min(used, held - (saved ?? 0))) : null;
  return { guests, itself: guests === null ? used : Math.max(0, used - guests), free, saved };
}

export class HostView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "Host";
    this.tiles = h("dl", { class: "tiles" });
    this.chart = new Chart("Memory of the host", { stacked: true, limitLabel: "all that the host has" });
    this.past = new PastDays("", () => this.draw());
    this.wrong = h("div");
    this.suffering = h("ul", { class: "plain" });
    this.problems = h("ul", { class: "plain" });
    this.recent = new Happenings(mom, 10);
    const now = h("section", { class: "now", "aria-label": "Now" }, h("h3", null, "What is wrong with the host"), this.wrong,
      h("h3", null, "Guests that suffer"), this.suffering, h("h3", null, "Problems"), this.problems);
    const past = h("div", null, this.past.element, this.chart.element, h("h3", null, "Done lately"), scrolled("Done lately", happeningHeads(), this.recent.body));
    this.element = h("div", null, h("h2", { class: "unseen" }, "Host"), this.tiles, h("div", { class: "first" }, past, now));
  }

  update() {
    const { mom } = this;
    renew(this.tiles, tiles(mom));
    this.draw();
    renew(this.wrong, conditionItems(mom.report));
    renew(this.suffering, sufferers(mom));
    renew(this.problems, problemItems(mom.problems));
    this.recent.update();
    this.past.update(); // which may take its time
  }

  draw() {
    const all = this.past.items?.map((one) => ({ time: one.time, fields: one.host, guests_together: one.guests_together })) ?? this.mom.samples;
    const samples = all.filter((sample) => isNumber(sample.fields.mem_available) && isNumber(sample.fields.mem_really_available));
    const made = samples.map(parts);
    /** @param {string} label @param {keyof ReturnType<typeof parts>} key */
    const layer = (label, key) => ({ label, look: `${key}-fill`, values: made.map((one) => one[key]) });
    const layers = [layer("the host itself", "itself"), layer("available", "free")];
    if (made.some((one) => one.saved !== null)) layers.push(layer("saved by KSM, above the line", "saved"));
    if (made.some((one) => one.guests !== null)) layers.unshift(layer("guests", "guests"));
    this.chart.live = this.past.items === null;
    this.chart.show(samples.map((sample) => sample.time), layers, samples.map((sample) => sample.fields.mem_available));
  }
}

/** @param {Guest} guest */
const killed = (guest) => guest.fields.killed_lately || 0;

/** The guests that are harmed, those in which programs were killed first. @param {Mom} mom */
function harmed(mom) {
  return mom.guests.filter((guest) => killed(guest) || guest.fields.ailment)
    .sort((one, other) => killed(other) - killed(one) || inNaturalOrder(one.name, other.name));
}

/** @param {Mom} mom */
function sufferers(mom) {
  const found = harmed(mom);
  const rows = found.slice(0, NAMED).map((guest) => {
    const { balloon_cur: size, balloon_max: most, ailment } = guest.fields;
    const what = [ailment, killed(guest) && `${killed(guest)} killed within 10 min`].filter(Boolean).join(", ");
    return h("li", { "data-key": guest.id }, h("a", { href: `#/guest/${coded(guest.id)}` }, guest.name), ` ${what}; has ${kib(size)} of ${kib(most)}`);
  });
  if (found.length > NAMED) rows.push(h("li", null, h("a", { href: "#/guests" }, `and ${found.length - NAMED} more`)));
  const silent = mom.guests.filter((guest) => guest.fields.ailment === undefined).length;
  if (silent) rows.push(h("li", { class: "faint" }, `${silent} of ${mom.guests.length} guests do not tell how they are.`));
  return rows.length && found.length ? rows : [h("li", { class: "good" }, "None."), ...rows];
}

/** How bad it is that the host lacks memory, as the verdict has it: one scale for all who look. @param {Api.ReportDocument} report */
function memoryTone(report) {
  const severity = report.verdict?.conditions.find((one) => one.name === "memory")?.severity;
  return severity === "error" ? "bad" : severity === "warning" ? "warn" : "";
}

/** @param {Mom} mom */
function tiles(mom) {
  const { report, changes } = mom;
  const { cycle, host: { fields: known } } = report;
  /** @param {string} kind */
  const psi = (kind) => percent(known[`psi_${kind}_some_avg10`]);
  const share = known.mem_really_available / known.mem_available;
  const counted = Object.entries(report.outcome_counts).filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
  const wanted = isNumber(known.mem_watermark_high) ? `, ${kib(known.mem_watermark_high)} wanted` : "";
  const suffer = harmed(mom).length;
  return [
    tile("Available", kib(known.mem_really_available), `${percent(share * 100, 0)} of ${kib(known.mem_available)}${wanted}`, memoryTone(report)),
    tile("Guests that suffer", mom.guests.length ? suffer : "–", harm(known), known.killed_lately ? "bad" : suffer ? "warn" : ""),
    tile("Guests", report.guests.rows.length, `have ${kib(sumOf(mom, "balloon_cur"))} of ${kib(sumOf(mom, "balloon_max"))}`),
    tile("Memory pressure", psi("memory"), `all waited ${percent(known.psi_memory_full_avg10)}`, known.psi_memory_some_avg10 >= 10 ? "bad" : ""),
    tile("Swap", kib(known.swap_usage), `of ${kib(known.swap_total)}${moving(mom)}`, moving(mom) ? "warn" : ""),
    tile("KSM saves", kib(known.ksm_saved), `${known.ksm_run === 1 ? "merges" : isNumber(known.ksm_run) ? "is off" : "nobody looks at it"}${isNumber(known.ksmd_cpu_usage) ? `, ${percent(known.ksmd_cpu_usage, 0)} of a CPU` : ""}`),
    ...(isNumber(known.given_back_sweeps) ? [givenBack(known)] : []),
    tile("Decided", changes ? `${changes} change${changes === 1 ? "" : "s"}` : "nothing new", `${counted ? `${counted}; ` : ""}cycle ${cycle.number} took ${span(cycle.duration_seconds)}`),
  ];
}

/** What guests had to bear, as far as it is counted. @param {Record<string, any>} known */
function harm(known) {
  return [
    isNumber(known.killed_lately) ? `${known.killed_lately} programs killed in 10 min` : "",
    known.killed_today ? `${known.killed_today} today` : "",
    known.promise_broken_today ? `promises broken for ${span(known.promise_broken_today)} today` : "",
    known.waited_today ? `waited ${span(known.waited_today)} for mom today at most` : "",
  ].filter(Boolean).join(", ");
}

/** What goes to swap and comes from there; empty: nothing does. @param {Mom} mom */
function moving(mom) {
  const { swap_in_rate: comes, swap_out_rate: goes } = mom.report.host.fields;
  if (!(comes || goes)) return "";
  const { pageKib } = mom;
  /** @param {number} pages */
  const text = (pages) => (pageKib === null ? `${Math.round(pages)} pages/s` : `${kib(pages * pageKib)}/s`);
  return `, ${text(comes || 0)} in, ${text(goes || 0)} out`;
}

/** What the recorder's accounts say, by the definitions of `mom report`. @param {Record<string, any>} known */
function givenBack(known) {
  const means = { balloon: known.given_back_balloon, sweeps: known.given_back_sweeps, cold: known.given_back_cold };
  const each = Object.entries(means).filter(([, size]) => size).map(([name, size]) => `${name} ${kib(size)}`);
  const all = sum([...Object.values(means), known.given_back_ksm]);
  return tile("Given back", kib(all), [...each, `${kib(known.given_back_today)} on average today`].join(", "));
}

/** @param {Mom} mom @param {string} name */
const sumOf = (mom, name) => (mom.guests.length ? sum(mom.guests.map((guest) => guest.fields[name])) : 0);
