// The host: what of its memory is where, what is wrong, and what was done lately.

import { Chart } from "./charts.js";
import { h, renew, scrolled, tile } from "./elements.js";
import { coded, inNaturalOrder, isNumber, kib, percent, span, sum } from "./figures.js";
import { Happenings, conditionItems, happeningHeads, problemItems } from "./happenings.js";
import { whyUnlisted } from "./known.js";
import { PastDays } from "./recorded.js";

/** @import { Guest, Mom, Sample } from "./known.js" */

const SMALL = 110; // pixels
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
    this.past = new PastDays("", () => this.draw(), () => mom.report.interval_seconds);
    this.chart = new Chart("Memory of the host", this.past, { kind: "areas", height: 260 });
    /** @type {[Chart, string, string, string][]} */
    this.more = [
      [new Chart("Memory pressure", this.past, { height: SMALL, text: (value) => percent(value), thousand: 1000, least: 1 }), "some waited", "stroke-1", "psi_memory_some_avg10"],
      [new Chart("Swap of the host", this.past, { height: SMALL, least: 65536 }), "in use", "stroke-3", "swap_usage"],
      [new Chart("Programs killed in guests", this.past, { kind: "bars", height: SMALL, text: howMany, thousand: 1000, least: 4 }), "killed", "stroke-bad", "killed_today"],
      [new Chart("Cold memory of guests", this.past, { height: SMALL, least: 65536 }), "cold", "stroke-0", "guests.cold"],
    ];
    this.wrong = h("div");
    this.suffering = h("ul", { class: "plain" });
    this.problems = h("ul", { class: "plain" });
    this.recent = new Happenings(mom, 10);
    const now = h("section", { class: "now", "aria-label": "Now" }, h("h3", null, "What is wrong with the host"), this.wrong,
      h("h3", null, "Guests that suffer"), this.suffering, h("h3", null, "Problems"), this.problems);
    const past = h("div", { class: "past" }, this.past.element, this.chart.element, h("h3", null, "Done lately"), scrolled("Done lately", happeningHeads(), this.recent.body));
    this.element = h("div", { class: "host" }, h("h2", { class: "unseen" }, "Host"), this.tiles, h("div", { class: "first" }, past, now, h("div", { class: "beside" }, this.more.map(([chart]) => chart.element))));
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
    const points = [...(this.past.items?.map(recordedPoint) ?? []), ...this.lately()].filter(({ mean }) => isNumber(mean.mem_available) && isNumber(mean.mem_really_available));
    const times = points.map((one) => one.time);
    const { shown } = this.past;
    const made = points.map((one) => parts({ fields: one.mean, guests_together: { rss: one.mean["guests.rss"] } }));
    /** @param {string} label @param {keyof ReturnType<typeof parts>} key */
    const layer = (label, key) => ({ label, look: `${key}-fill`, values: made.map((one) => one[key]) });
    const layers = [layer("the host itself", "itself"), layer("available", "free")];
    if (made.some((one) => one.saved !== null)) layers.push(layer("saved by KSM, above the line", "saved"));
    if (made.some((one) => one.guests !== null)) layers.unshift(layer("guests", "guests"));
    /** @param {string} label @param {string} look @param {(point: Point) => number} value */
    const line = (label, look, value) => ({ label, look, line: true, values: points.map(value) });
    const all = line("all that the host has", "total", ({ mean }) => mean.mem_available);
    const fullest = line("used at most", "fullest", ({ mean, least }) => mean.mem_available - least.mem_really_available);
    this.chart.live = this.past.items === null;
    this.chart.show(times, [...layers, ...(this.chart.live ? [] : [fullest]), all], shown);
    for (const [chart, label, look, name] of this.more) {
      const most = points.map((one) => one.most[name]);
      const values = chart.kind === "bars" ? risen(most) : points.map((one) => one.mean[name]);
      chart.element.hidden = !values.some(isNumber);
      chart.live = this.chart.live;
      if (!chart.element.hidden) chart.show(times, [{ label, look, values, range: chart.live || chart.kind === "bars" ? undefined : [points.map((one) => one.least[name]), most] }], shown);
    }
  }

  /** The last cycles, as far as the recording does not have them. @returns {Point[]} */
  lately() {
    const last = this.past.items?.at(-1);
    const from = last ? last.time + last.seconds / 2 : this.past.items ? this.past.span?.[0] ?? 0 : 0;
    return this.mom.samples.filter((one) => one.time > from).map(({ time, fields, guests_together: sums }) => {
      const now = { ...fields, "guests.rss": sums.rss, "guests.cold": sums.cold };
      return { time, least: now, mean: now, most: now };
    });
  }
}

/** @typedef {{ time: number, least: Record<string, any>, mean: Record<string, any>, most: Record<string, any> }} Point */

/** @param {Api.Recorded} one @returns {Point} */
const recordedPoint = ({ time, least, mean, most }) => ({ time, least, mean, most });

/** By how much a count has risen from time to time; it begins anew at midnight. @param {(number | null | undefined)[]} counts */
export const risen = (counts) => counts.map((now, n) => {
  const before = counts[n - 1];
  return isNumber(now) && isNumber(before) ? (now >= before ? now - before : now) : null;
});

/** @param {number | null | undefined} value */
const howMany = (value) => (isNumber(value) ? String(Math.round(value * 10) / 10) : "–");

/** @param {Guest} guest */
const killed = (guest) => guest.fields.killed_lately || 0;

/** Return the guests that suffer, those in which programs were killed first. @param {Mom} mom */
function harmed(mom) {
  return mom.guests.filter((guest) => guest.fields.suffers)
    .sort((one, other) => killed(other) - killed(one) || inNaturalOrder(one.name, other.name));
}

/** The first of them by name. @param {Guest[]} guests */
const named = (guests) => guests.slice(0, 3).map((guest) => guest.name).join(", ") + (guests.length > 3 ? ` and ${guests.length - 3} more` : "");

/** @param {Mom} mom */
function sufferers(mom) {
  if (whyUnlisted(mom.report)) return [h("li", { class: "faint" }, "Unknown.")];
  const found = harmed(mom);
  const rows = found.slice(0, NAMED).map((guest) => {
    const { balloon_cur: size, balloon_max: most, suffers } = guest.fields;
    return h("li", { "data-key": guest.id }, h("a", { href: `#/guest/${coded(guest.id)}` }, guest.name), `: ${suffers}; has ${kib(size)} of ${kib(most)}`);
  });
  if (found.length > NAMED) rows.push(h("li", null, h("a", { href: "#/guests" }, `and ${found.length - NAMED} more`)));
  const silent = mom.guests.filter((guest) => guest.fields.suffers === undefined).length;
  if (silent) rows.push(h("li", { class: "faint" }, `${silent} of ${mom.guests.length} guests do not tell how they are.`));
  return found.length || (silent && silent === mom.guests.length) ? rows : [h("li", { class: "good" }, "None."), ...rows];
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
  const suffer = harmed(mom);
  const promised = sumOf(mom, "column.promise");
  return [
    tile("Available", kib(known.mem_really_available), `${percent(share * 100, 0)} of ${kib(known.mem_available)}${wanted}`, memoryTone(report)),
    tile("Guests that suffer", mom.guests.some((guest) => guest.fields.suffers !== undefined) ? suffer.length : "–", [named(suffer), harm(known)].filter(Boolean).join("; "), known.killed_lately ? "bad" : suffer.length ? "warn" : ""),
    whyUnlisted(report) ? tile("Guests", "–", "the hypervisor does not list them", "bad") : tile("Guests", report.guests.rows.length, `have ${kib(sumOf(mom, "balloon_cur"))} of ${kib(sumOf(mom, "balloon_max"))}${promised ? `, promised ${kib(promised)}` : ""}`),
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
    known.promise_broken_today ? `promises broken for ${span(known.promise_broken_today)} today (summed over guests)` : "",
    known.waited_today ? `waited because of mom for at most ${span(known.waited_today)} today (summed over guests)` : "",
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
