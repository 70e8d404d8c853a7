// The host: what of its memory is where, what is wrong, and what was done lately.

import { Chart } from "./charts.js";
import { h, renew, scrolled, tile } from "./elements.js";
import { isNumber, kib, percent, span, sum } from "./figures.js";
import { happeningHeads, problemItems, recent } from "./happenings.js";
import { PastDays } from "./recorded.js";

/** @import { Mom, Sample } from "./known.js" */

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
    this.problems = h("ul", { class: "plain" });
    this.recent = h("tbody");
    this.element = h("div", null, h("h2", null, "Host"), this.tiles, this.past.element, this.chart.element,
      h("p", { class: "faint" }, "What is above the dashed line is memory that KSM saves."),
      h("h3", null, "Problems"), this.problems,
      h("h3", null, "Done lately"), scrolled("Done lately", happeningHeads(), this.recent));
  }

  update() {
    const { mom } = this;
    renew(this.tiles, tiles(mom));
    this.draw();
    renew(this.problems, problemItems(mom.problems));
    renew(this.recent, recent(mom, 10));
    this.past.update(); // which may take its time
  }

  draw() {
    const all = this.past.items?.map((one) => ({ time: one.time, fields: one.host, guests_together: one.guests_together })) ?? this.mom.samples;
    const samples = all.filter((sample) => isNumber(sample.fields.mem_available) && isNumber(sample.fields.mem_really_available));
    const made = samples.map(parts);
    /** @param {string} label @param {keyof ReturnType<typeof parts>} key */
    const layer = (label, key) => ({ label, look: `${key}-fill`, values: made.map((one) => one[key]) });
    const layers = [layer("the host itself", "itself"), layer("available", "free")];
    if (made.some((one) => one.saved !== null)) layers.push(layer("saved by KSM", "saved"));
    if (made.some((one) => one.guests !== null)) layers.unshift(layer("guests", "guests"));
    this.chart.live = this.past.items === null;
    this.chart.show(samples.map((sample) => sample.time), layers, samples.map((sample) => sample.fields.mem_available));
  }
}

/** @param {Mom} mom */
function tiles(mom) {
  const { report, changes } = mom;
  const { cycle, host: { fields: known } } = report;
  /** @param {string} kind */
  const psi = (kind) => percent(known[`psi_${kind}_some_avg10`]);
  const share = known.mem_really_available / known.mem_available;
  const counted = Object.entries(report.outcome_counts).filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
  return [
    tile("Available", kib(known.mem_really_available), `of ${kib(known.mem_available)} (${percent(share * 100, 0)})`, share < 0.05 ? "bad" : share < 0.2 ? "warn" : ""),
    tile("Guests", report.guests.rows.length, `have ${kib(sumOf(mom, "balloon_cur"))} of ${kib(sumOf(mom, "balloon_max"))}`),
    tile("Memory pressure", psi("memory"), `all waited ${percent(known.psi_memory_full_avg10)}`, known.psi_memory_some_avg10 >= 10 ? "bad" : ""),
    tile("Swap", kib(known.swap_usage), `of ${kib(known.swap_total)}${moving(mom)}`, moving(mom) ? "warn" : ""),
    tile("KSM saves", kib(known.ksm_saved), `${known.ksm_run === 1 ? "merges" : isNumber(known.ksm_run) ? "is off" : "nobody looks at it"}${isNumber(known.ksmd_cpu_usage) ? `, ${percent(known.ksmd_cpu_usage, 0)} of a CPU` : ""}`),
    ...(isNumber(known.given_back_sweeps) ? givenBack(known) : []),
    tile("Cycle", cycle.number, `took ${span(cycle.duration_seconds)}, lag ${span(cycle.lag_seconds)}${cycle.skipped ? `, ${cycle.skipped} left out` : ""}`),
    tile("Decided", changes ? `${changes} change${changes === 1 ? "" : "s"}` : "nothing new", counted),
  ];
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
  const means = { balloon: known.given_back_balloon, sweeps: known.given_back_sweeps, KSM: known.given_back_ksm, cold: known.given_back_cold };
  const given = Object.entries(means).filter(([, size]) => isNumber(size));
  const each = given.filter(([, size]) => size).map(([name, size]) => `${name} ${kib(size)}`).join(", ");
  const cost = [
    isNumber(known.waited_today) ? `guests waited ${span(known.waited_today)} for it at most` : null,
    known.promise_broken_today ? `promises broken for ${span(known.promise_broken_today)}` : null,
    known.killed_today ? `${known.killed_today} programs killed` : null,
  ];
  return [
    tile("Given back", kib(sum(given.map(([, size]) => size))), each),
    tile("Given back today", kib(known.given_back_today), ["on average", ...cost.filter((one) => one)].join(", "), known.promise_broken_today ? "warn" : ""),
  ];
}

/** @param {Mom} mom @param {string} name */
const sumOf = (mom, name) => (mom.guests.length ? sum(mom.guests.map((guest) => guest.fields[name])) : 0);
