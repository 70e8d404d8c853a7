// What is known of mom: the newest report, what came before it, and what has happened.

import { get } from "./api.js";
import { sum } from "./figures.js";

const KEPT_SAMPLES = 720;
const SPARK_CYCLES = 60;
const MEANWHILE = 10; // cycles that may end while past ones are asked for, which are counted from the newest

/** Fields of guests that are asked for beside those of the columns, as far as plugins declare them. */
export const GUEST_FIELDS = "rss?,cold?,suffers?";

/** Those of the host's past cycles that are drawn. */
const HOST_FIELDS = "mem_available?,mem_really_available?,ksm_saved?,psi_memory_some_avg10?,swap_usage?,killed_today?,killed_lately?,mem_watermark_high?,mem_watermark_low?";

/** @typedef {{ id: string, name: string, blocked: Record<string, string>, fields: Record<string, any> }} Guest */
/** @typedef {{ cycle: number, time: number, duration_seconds: number, fields: Record<string, any>, guests_together: Record<string, number | null> }} Sample */

export class Mom {
  constructor() {
    /** @type {Api.Client | null} */
    this.me = null;
    /** @type {Api.ReportDocument | null} */
    this.newest = null;
    this.heard = 0; // by this page's own clock, in milliseconds
    /** @type {Guest[]} */
    this.guests = [];
    /** @type {Map<string, (number | null)[]>} */
    this.sparks = new Map();
    /** @type {Sample[]} */
    this.samples = [];
    this.whole = 0; // the cycle until which none is missing in them
    /** @type {Api.CommonProblem[]} */
    this.problems = [];
    /** @type {unknown} */
    this.problemsOf = null; // the part of the report that they were made of
  }

  /** The newest report; there is one before anything is shown. @returns {Api.ReportDocument} */
  get report() {
    if (!this.newest) throw new Error("mom has not told anything yet");
    return this.newest;
  }

  get mayChange() {
    return this.me?.right === "change";
  }

  /** The host's size of a page, in KiB. @returns {number | null} */
  get pageKib() {
    return this.newest?.host.fields.page_size ?? null;
  }

  /** The host before this page began to listen; after a while in which it did not, as many cycles as it has missed. */
  async loadHost() {
    const { number } = this.report.cycle;
    const limit = Math.min(KEPT_SAMPLES, number - this.whole + MEANWHILE);
    const { items } = await get(`v1/host/history?limit=${limit}&fields=${HOST_FIELDS}`);
    const first = items.at(-1)?.cycle ?? Infinity;
    this.whole = items[0]?.cycle ?? number;
    this.samples = [...this.samples.filter((one) => one.cycle < first), ...items.reverse()].slice(-KEPT_SAMPLES);
  }

  /** Load the small lines of guests. */
  async loadPast() {
    this.sparks = new Map(Object.entries((await get(`v1/guest-histories?limit=${SPARK_CYCLES}`)).guests));
  }

  /** A cycle has ended. @param {Api.ReportDocument} report */
  hear(report) {
    const { cycle } = report;
    if (this.newest?.started_at !== report.started_at) [this.samples, this.whole] = [[], 0]; // of another mom
    this.newest = report;
    this.heard = performance.now();
    if (this.samples.some((one) => one.cycle === cycle.number && one.time === cycle.time)) return;
    if (cycle.number === this.whole + 1) this.whole = cycle.number;
    this.samples.push({ cycle: cycle.number, time: cycle.time, duration_seconds: cycle.duration_seconds, fields: report.host.fields,
      guests_together: { rss: together(report, "rss"), cold: together(report, "cold") } });
    if (this.samples.length > KEPT_SAMPLES) this.samples.shift();
  }

  /** Problems of the newest report; whether they are others now. */
  async lookAtProblems() {
    const { problems } = this.report;
    if (problems === this.problemsOf) return false;
    this.problems = problems.length ? (await get("v1/problems")).items : [];
    this.problemsOf = problems;
    return true;
  }

  /** Guests of the newest report, as views need them. */
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

/** The sum over all guests of which the field is known; null where it is known of none. @param {Api.ReportDocument} report @param {string} name @returns {number | null} */
function together(report, name) {
  const at = report.guests.columns.indexOf(name);
  return at < 0 ? null : sum(report.guests.rows.map((row) => row[at]));
}

/** Why it is not known which guests there are; empty where it is. @param {Api.ReportDocument} report */
export const whyUnlisted = ({ guests, verdict }) => (!guests.rows.length
  && verdict?.conditions.find((one) => one.name === "guests" && one.plugins.includes("core") && !one.over_seconds)?.message) || "";

/** What fields say, by scope and name; asked for once. @type {Promise<Map<string, Api.Field>> | null} */
let asked = null;

export function declaredFields() {
  asked ??= get("v1/fields").then(({ items }) => new Map(items.map((/** @type {Api.Field} */ one) => [`${one.scope}.${one.name}`, one])));
  asked.catch(() => { asked = null; });
  return asked;
}

export function forgetDeclared() {
  asked = null;
}
