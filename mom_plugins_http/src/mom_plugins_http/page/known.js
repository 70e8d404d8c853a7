// State of mom: the newest report, past cycles and problems.

import { get } from "./api.js";
import { sum } from "./figures.js";

const KEPT_SAMPLES = 720;
const SPARK_CYCLES = 60;
const MEANWHILE = 10; // cycles that may end during a request for past cycles

/** Fields of guests beyond the columns; unknown ones are ignored. */
export const GUEST_FIELDS = "rss?,cold?,suffers?";

/** Fields of the host's past cycles, for charts. */
const HOST_FIELDS = "mem_available?,mem_really_available?,ksm_saved?,psi_memory_some_avg10?,swap_usage?,killed_today?,killed_lately?,mem_watermark_high?,mem_watermark_low?";

/** @typedef {{ id: string, name: string, blocked: Record<string, string>, fields: Record<string, any> }} Guest */
/** @typedef {{ cycle: number, time: number, duration_seconds: number, fields: Record<string, any>, guests_together: Record<string, number | null> }} Sample */

export class Mom {
  constructor() {
    /** @type {Api.Client | null} */
    this.me = null;
    /** @type {Api.ReportDocument | null} */
    this.newest = null;
    this.heard = 0; // in milliseconds, by performance.now()
    /** @type {Guest[]} */
    this.guests = [];
    /** @type {Map<string, (number | null)[]>} */
    this.sparks = new Map();
    /** @type {Sample[]} */
    this.samples = [];
    this.whole = 0; // last cycle without a gap before it
    /** @type {Api.CommonProblem[]} */
    this.problems = [];
    /** @type {unknown} */
    this.problemsOf = null; // the report's problems when `problems` was loaded
  }

  /** Newest report; it exists before any view. @returns {Api.ReportDocument} */
  get report() {
    if (!this.newest) throw new Error("mom has not reported yet");
    return this.newest;
  }

  get mayChange() {
    return this.me?.right === "change";
  }

  /** Page size of the host, in KiB. @returns {number | null} */
  get pageKib() {
    return this.newest?.host.fields.page_size ?? null;
  }

  /** Load the host's cycles that this page has missed. */
  async loadHost() {
    const { number } = this.report.cycle;
    const limit = Math.min(KEPT_SAMPLES, number - this.whole + MEANWHILE);
    const { items } = await get(`v1/host/history?limit=${limit}&fields=${HOST_FIELDS}`);
    const first = items.at(-1)?.cycle ?? Infinity;
    this.whole = items[0]?.cycle ?? number;
    this.samples = [...this.samples.filter((one) => one.cycle < first), ...items.reverse()].slice(-KEPT_SAMPLES);
  }

  /** Load the guests' sparklines. */
  async loadPast() {
    this.sparks = new Map(Object.entries((await get(`v1/guest-histories?limit=${SPARK_CYCLES}`)).guests));
  }

  /** A cycle has ended. @param {Api.ReportDocument} report */
  hear(report) {
    const { cycle } = report;
    if (this.newest?.started_at !== report.started_at) [this.samples, this.whole] = [[], 0]; // another mom has started
    this.newest = report;
    this.heard = performance.now();
    if (this.samples.some((one) => one.cycle === cycle.number && one.time === cycle.time)) return;
    if (cycle.number === this.whole + 1) this.whole = cycle.number;
    this.samples.push({ cycle: cycle.number, time: cycle.time, duration_seconds: cycle.duration_seconds, fields: report.host.fields,
      guests_together: { rss: together(report, "rss"), cold: together(report, "cold") } });
    if (this.samples.length > KEPT_SAMPLES) this.samples.shift();
  }

  /** Load the problems of the newest report; returns whether they have changed. */
  async lookAtProblems() {
    const { problems } = this.report;
    if (problems === this.problemsOf) return false;
    this.problems = problems.length ? (await get("v1/problems")).items : [];
    this.problemsOf = problems;
    return true;
  }

  /** Convert the guests of the newest report for the views. */
  look() {
    const { guests } = this.report;
    const columns = guests.columns.slice(4);
    this.guests = guests.rows.map(([id, name, blocked, , ...values]) => ({ id, name, blocked,
      fields: Object.fromEntries(columns.flatMap((column, n) => (values[n] === null ? [] : [[column, values[n]]]))) }));
    const here = new Set();
    for (const guest of this.guests) {
      here.add(guest.id);
      const spark = this.sparks.get(guest.id) ?? [];
      spark.push(guest.fields.balloon_cur ?? null);
      if (spark.length > SPARK_CYCLES) spark.shift();
      this.sparks.set(guest.id, spark);
    }
    for (const id of this.sparks.keys()) if (!here.has(id)) this.sparks.delete(id);
  }
}

/** Sum over the guests with the field; null if no guest has it. @param {Api.ReportDocument} report @param {string} name @returns {number | null} */
function together(report, name) {
  const at = report.guests.columns.indexOf(name);
  return at < 0 ? null : sum(report.guests.rows.map((row) => row[at]));
}

/** Why the list of guests is unknown; empty if it is known. @param {Api.ReportDocument} report */
export const whyUnlisted = ({ guests, verdict }) => (!guests.rows.length
  && verdict?.conditions.find((one) => one.name === "guests" && one.plugins.includes("core") && !one.over_seconds)?.message) || "";

/** Declarations of fields by scope and name; requested once. @type {Promise<Map<string, Api.Field>> | null} */
let asked = null;

export function declaredFields() {
  asked ??= get("v1/fields").then(({ items }) => new Map(items.map((/** @type {Api.Field} */ one) => [`${one.scope}.${one.name}`, one])));
  asked.catch(() => { asked = null; });
  return asked;
}

export function forgetDeclared() {
  asked = null;
}
