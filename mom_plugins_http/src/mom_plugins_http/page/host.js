// View of the host: conditions, suffering guests, memory and recent acts.

import { TONE, actItems, conditionItems, guestLink, problemItems } from "./acts.js";
import { get } from "./api.js";
import { Chart } from "./charts.js";
import { h, renew, tile } from "./elements.js";
import { inNaturalOrder, isNumber, kib, kibOf, percent, span, sum } from "./figures.js";
import { whyUnlisted } from "./known.js";
import { PastDays } from "./recorded.js";

/** @import { Guest, Mom, Sample } from "./known.js" */

const SMALL = 110; // pixels
const NAMED = 6; // limit of suffering guests beside the chart
const ACTS = 5; // on the first screen
const MARKED = 100; // acts in the chart

/**
 * Parts of the host's memory that add up: pages merged by KSM count once.
 * @param {Pick<Sample, "fields" | "guests_together">} sample
 */
export function parts(sample) {
  const { mem_available: total, mem_really_available: free, ksm_saved: merged } = sample.fields;
  const used = total - free;
  const held = sample.guests_together?.rss;
  const guests = isNumber(held) ? Math.max(0, Math.min(used, held - Math.max(0, merged ?? 0))) : null;
  return { guests, itself: guests === null ? used : Math.max(0, used - guests), free };
}

export class HostView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "Host";
    this.tiles = h("dl", { class: "tiles" });
    this.past = new PastDays("", () => this.draw(), () => mom.report.interval_seconds);
    this.chart = new Chart("Memory of the host", this.past, { kind: "areas", height: 250 });
    /** @type {Api.Act[]} */
    this.acts = [];
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
    this.recent = h("ul", { class: "plain acts" });
    const now = h("section", { class: "now", "aria-label": "Now" }, h("h3", null, "What is wrong with the host"), this.wrong,
      h("h3", null, "Guests that suffer"), this.suffering, h("h3", null, "Problems"), this.problems);
    const past = h("div", { class: "past" }, this.past.element, this.chart.element,
      h("section", { "aria-label": "What mom did last" }, h("h3", null, "What mom did last ", h("a", { href: "#/decisions" }, "all")), this.recent));
    this.element = h("div", { class: "host" }, h("h2", { class: "unseen" }, "Host"), this.tiles, h("div", { class: "first" }, past, now, h("div", { class: "beside" }, this.more.map(([chart]) => chart.element))));
  }

  async update() {
    const { mom } = this;
    renew(this.tiles, tiles(mom));
    renew(this.wrong, conditionItems(mom.report));
    renew(this.suffering, sufferers(mom));
    renew(this.problems, problemItems(mom.problems));
    this.draw();
    this.past.update(); // may be slow
    this.acts = (await get(`v1/acts?together=1&limit=${MARKED}`)).items;
    renew(this.recent, actItems(this.acts.slice(0, ACTS)));
    this.draw();
  }

  /** Changes of policies and reservations are acts, too. */
  tell() { return this.update(); }

  draw() {
    const points = [...(this.past.items?.map(recordedPoint) ?? []), ...this.lately()].filter(({ mean }) => isNumber(mean.mem_available) && isNumber(mean.mem_really_available));
    const times = points.map((one) => one.time);
    const { shown } = this.past;
    const made = points.map((one) => parts({ fields: one.mean, guests_together: { rss: one.mean["guests.rss"] } }));
    /** @param {string} label @param {keyof ReturnType<typeof parts>} key */
    const layer = (label, key) => ({ label, look: `${key}-fill`, values: made.map((one) => one[key]) });
    const layers = [layer("the host itself", "itself"), layer("available", "free")];
    if (made.some((one) => one.guests !== null)) layers.unshift(layer("guests", "guests"));
    /** @param {string} label @param {string} look @param {(point: Point) => number} value */
    const line = (label, look, value) => ({ label, look, line: true, values: points.map(value) });
    const all = line("all memory of the host", "total", ({ mean }) => mean.mem_available);
    /** @param {string} label @param {string} look @param {string} name */
    const mark = (label, look, name) => ({ ...line(label, look, ({ mean }) => (isNumber(mean[name]) ? mean.mem_available - mean[name] : NaN)), told: points.map(({ mean }) => mean[name]) });
    const marks = [mark("should be free", "wanted", "mem_watermark_high"), mark("full below", "full", "mem_watermark_low")].filter(({ told }) => told.some(isNumber));
    const fullest = line("used at most", "fullest", ({ mean, least }) => mean.mem_available - least.mem_really_available);
    this.chart.live = this.past.items === null;
    this.chart.show(times, [...layers, ...(this.chart.live ? [] : [fullest]), all, ...marks], { ...shown, marks: [...this.actMarks(), ...killMarks(points)] });
    for (const [chart, label, look, name] of this.more) {
      const most = points.map((one) => one.most[name]);
      const values = chart.kind === "bars" ? risen(most) : points.map((one) => one.mean[name]);
      chart.element.hidden = !values.some(isNumber);
      chart.live = this.chart.live;
      if (!chart.element.hidden) chart.show(times, [{ label, look, values, range: chart.live || chart.kind === "bars" ? undefined : [points.map((one) => one.least[name]), most] }], shown);
    }
  }

  /** Marks at the start of acts. */
  actMarks() {
    return this.acts.map(({ since, who, text, status }) => ({ time: since, text: `${who} ${text}`, tone: status === "applied" ? "" : TONE[status] ?? "" }));
  }

  /** Cycles after the end of the recording. @returns {Point[]} */
  lately() {
    const last = this.past.items?.at(-1);
    const from = last ? last.time + last.seconds / 2 : this.past.items ? this.past.span?.[0] ?? 0 : 0;
    return this.mom.samples.filter((one) => one.time > from).map(({ time, fields, guests_together: sums }) => {
      const now = { ...fields, "guests.rss": sums.rss, "guests.cold": sums.cold };
      return { time, least: now, mean: now, most: now };
    });
  }
}

/** Programs killed since the previous time: from today's count if known, or else from the count of the last 10 min. @param {Point[]} points */
function killMarks(points) {
  const name = points.some(({ most }) => isNumber(most.killed_today)) ? "killed_today" : "killed_lately";
  return risen(points.map(({ most }) => most[name])).flatMap((count, n) => (count && (name === "killed_today" || count <= points[n].most[name] - points[n - 1].most[name])
    ? [{ time: points[n].time, text: `${count} program${count === 1 ? "" : "s"} killed in guests`, tone: "bad", top: true }] : []));
}

/** @typedef {{ time: number, least: Record<string, any>, mean: Record<string, any>, most: Record<string, any> }} Point */

/** @param {Api.Recorded} one @returns {Point} */
const recordedPoint = ({ time, least, mean, most }) => ({ time, least, mean, most });

/** Increase of a count from each time to the next. The count restarts at midnight. @param {(number | null | undefined)[]} counts */
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

/** @param {Mom} mom */
function sufferers(mom) {
  if (whyUnlisted(mom.report)) return [h("li", { class: "faint" }, "Unknown.")];
  const found = harmed(mom);
  const rows = found.slice(0, NAMED).map((guest) => {
    const { balloon_cur: size, balloon_max: most, suffers } = guest.fields;
    return h("li", { "data-key": guest.id }, guestLink(guest), `: ${suffers}; has ${kib(size)} of ${kib(most)}`);
  });
  if (found.length > NAMED) rows.push(h("li", null, h("a", { href: "#/guests" }, `and ${found.length - NAMED} more`)));
  const silent = mom.guests.filter((guest) => guest.fields.suffers === undefined).length;
  if (silent) rows.push(h("li", { class: "faint" }, `${silent} of ${mom.guests.length} guests do not report their state.`));
  const { waited_today: waited } = mom.report.host.fields;
  if (waited) rows.push(h("li", { class: "faint" }, `Guests waited because of mom: at most ${span(waited)} today, all guests together.`));
  return found.length || (silent && silent === mom.guests.length) ? rows : [h("li", { class: "good" }, "None."), ...rows];
}

/** Severity of the host's lack of memory, as in the verdict: all views use one scale. @param {Api.ReportDocument} report */
function memoryTone(report) {
  const severity = report.verdict?.conditions.find((one) => one.name === "memory")?.severity;
  return severity === "error" ? "bad" : severity === "warning" ? "warn" : "";
}

/** @param {Mom} mom */
function tiles(mom) {
  const { report } = mom;
  const { host: { fields: known } } = report;
  const promised = sumOf(mom, "column.promise");
  const suffer = harmed(mom).length;
  const flow = moving(mom);
  return [
    tile("Available", kibOf(known.mem_really_available, known.mem_available), room(known), memoryTone(report)),
    tile("Guests that suffer", mom.guests.some((guest) => guest.fields.suffers !== undefined) ? `${suffer} of ${mom.guests.length}` : "–", killedText(known), known.killed_lately ? "bad" : suffer ? "warn" : ""),
    whyUnlisted(report) ? tile("Guests' memory", "–", "the hypervisor does not list them", "bad") : tile("Guests' memory", kibOf(sumOf(mom, "balloon_cur"), sumOf(mom, "balloon_max")), promised ? `promised ${kib(promised)}${known.promise_broken_today ? `, broken for ${span(known.promise_broken_today)} today` : ""}` : "nothing promised", known.promise_broken_today ? "warn" : ""),
    tile("Memory pressure", percent(known.psi_memory_some_avg10), `all waited: ${percent(known.psi_memory_full_avg10)}`, known.psi_memory_some_avg10 >= 10 ? "bad" : ""),
    tile("Swap", kibOf(known.swap_usage, known.swap_total), flow || "no traffic", flow ? "warn" : ""),
    isNumber(known.given_back_sweeps) ? givenBack(known)
      : tile("KSM saves", kib(known.ksm_saved), `${known.ksm_run === 1 ? "merges" : isNumber(known.ksm_run) ? "is off" : "unknown"}${isNumber(known.ksmd_cpu_usage) ? `, ${percent(known.ksmd_cpu_usage, 0)} of a CPU` : ""}`),
  ];
}

/** Whether less memory is available than should be free, and how much is missing. @param {Record<string, any>} known */
export function room({ mem_really_available: free, mem_watermark_high: wanted }) {
  if (!isNumber(free) || !isNumber(wanted)) return "";
  return free < wanted ? `${kib(wanted - free)} too little: ${kib(wanted)} should be free` : `enough: ${kib(wanted)} should be free`;
}

/** @param {Record<string, any>} known */
function killedText({ killed_lately: lately, killed_today: today }) {
  if (!isNumber(lately)) return "";
  return `${lately || "no"} program${lately === 1 ? "" : "s"} killed in 10 min${today > lately ? `, ${today} today` : ""}`;
}

/** Swap traffic in both directions; empty if there is none. @param {Mom} mom */
function moving(mom) {
  const { swap_in_rate: comes, swap_out_rate: goes } = mom.report.host.fields;
  if (!(comes || goes)) return "";
  const { pageKib } = mom;
  /** @param {number} pages */
  const text = (pages) => (pageKib === null ? `${Math.round(pages)} pages/s` : `${kib(pages * pageKib)}/s`);
  return `${text(comes || 0)} in, ${text(goes || 0)} out`;
}

/** Memory given back, from the recorder's accounts, as `mom report` defines it. @param {Record<string, any>} known */
function givenBack(known) {
  const all = sum([known.given_back_balloon, known.given_back_sweeps, known.given_back_cold, known.given_back_ksm]);
  return tile("Given back", kib(all), `today ${kib(known.given_back_today)} on average`);
}

/** @param {Mom} mom @param {string} name */
const sumOf = (mom, name) => (mom.guests.length ? sum(mom.guests.map((guest) => guest.fields[name])) : 0);
