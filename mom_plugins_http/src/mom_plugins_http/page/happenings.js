// What was done, and what was said of it, as rows of tables.

import { h, heads, renew } from "./elements.js";
import { amount, clock, coded, lately, place, span } from "./figures.js";

/** @import { Done, Mom, Note } from "./known.js" */

/** @type {Record<string, string>} */
export const TONE = { applied: "good", failed: "bad", refused: "warn", gone: "warn" };

const FIGURE = /[0-9][0-9.,]*( ?[KMGT]iB)?/g; // with another one in it, a reason is the same

/** @param {Mom} mom @param {Done} one @param {boolean} named whether the row says of whom @param {Done[]} [all] those that it stands for, newest first @param {boolean} [open] each of them stands below, or this is one of those */
export function happened(mom, one, named, all = [one], open = false) {
  const unit = mom.unitOf(one.control);
  const first = all[all.length - 1];
  const many = all.length > 1;
  const key = keyOf(all) + (open && !many ? " alone" : "");
  const who = one.entity.scope === "guest" ? h("a", { href: `#/guest/${coded(one.entity.id)}` }, one.entity.name) : one.entity.name;
  const outcome = [h("span", { class: TONE[one.status] ?? null }, one.status), one.error && `: ${one.error}`];
  const times = many && h("button", { type: "button", class: "fold", "aria-expanded": String(open), title: "each of them" }, `${open ? "▾" : "▸"} ${all.length} times`);
  return h("tr", { "data-key": key, "data-fold": many && key, class: open && !many ? "each" : null }, h("td", null, many && `${clock(first.time)} – `, clock(one.time)), named && h("td", null, who), h("td", null, one.control, " ", times),
    h("td", null, amount(first.before, unit)), h("td", null, amount(one.value, unit)), h("td", null, outcome), h("td", { title: one.reason }, why(one)));
}

/** @param {Done[]} all newest first: more may come */
const keyOf = (all) => `${all[all.length - 1].time} ${all[0].entity.id} ${all[0].control}`;

/** What a law says, without the policy's form. @param {Done} one */
const why = (one) => one.reason.split(": (")[0] || place(one.source);

/** @param {Done} one @param {Done} other */
const alike = (one, other) => one.status === other.status && one.error === other.error && why(one).replace(FIGURE, "") === why(other).replace(FIGURE, "");

/**
 * What was decided of the same guest and control for the same reason, again and again, as one.
 * @param {(Done | Note)[]} happenings newest first
 * @returns {(Done | Note)[][]}
 */
export function folded(happenings) {
  /** @type {Map<string, Done[]>} */
  const newest = new Map();
  /** @type {(Done | Note)[][]} */
  const groups = [];
  for (const one of happenings) {
    const of = "text" in one ? "" : `${one.entity.id}\n${one.control}`;
    const later = newest.get(of);
    if ("text" in one) groups.push([one]);
    else if (later && alike(later[0], one)) later.push(one);
    else {
      const made = [one];
      newest.set(of, made);
      groups.push(made);
    }
  }
  return groups;
}

export const happeningHeads = () => heads("When", "Who", "What", "From", "To", "Outcome", "Why");

/** Rows of what has happened, in which a button or a click unfolds what was done again and again. */
export class Happenings {
  /** @param {Mom} mom @param {number} most @param {(one: Done | Note) => boolean} [wanted] */
  constructor(mom, most, wanted = () => true) {
    this.mom = mom;
    this.most = most;
    this.wanted = wanted;
    /** @type {Set<string>} */
    this.open = new Set();
    this.body = h("tbody", { class: "happenings", onclick: (/** @type {MouseEvent & { target: Element }} */ event) => {
      const key = !event.target.closest("a") && event.target.closest("tr")?.dataset.fold;
      if (!key) return;
      if (!this.open.delete(key)) this.open.add(key);
      this.update();
    } });
  }

  update() {
    const found = folded(this.mom.happenings.filter(this.wanted));
    const rows = found.slice(0, this.most).flatMap(([one, ...earlier]) => {
      if ("text" in one) return [noted(one)];
      const all = [one, .../** @type {Done[]} */ (earlier)];
      const open = this.open.has(keyOf(all));
      return [happened(this.mom, one, true, all, open), ...(open ? all.map((each) => happened(this.mom, each, true, [each], true)) : [])];
    });
    const none = `Nothing${this.mom.happenings.length ? " of that kind" : ""} for as long as mom remembers.`;
    renew(this.body, rows.length ? rows : [h("tr", null, h("td", { colspan: 7, class: "faint" }, none))]);
  }
}

/** @param {Note} one */
const noted = (one) => h("tr", { "data-key": `${one.time} ${one.text}` }, h("td", null, clock(one.time)), h("td", null, one.about), h("td", { colspan: 5 }, one.text));

/** What is wrong with the host as a whole: since when, why, and what to do; and what is over. @param {Api.ReportDocument} report */
export function conditionItems(report) {
  const conditions = report.verdict?.conditions ?? [];
  if (!conditions.length) return [h("p", { class: "good" }, "Nothing.")];
  return conditions.map((one) => (one.severity === "ok"
    ? h("div", { "data-key": one.name, class: "notice past" }, h("p", null, `Over for ${span(one.over_seconds)}: ${one.message}. It lasted ${span(one.lasted_seconds)}.`))
    : h("div", { "data-key": one.name, class: one.severity === "error" ? "notice bad" : "notice" },
      h("p", null, h("strong", null, `${one.severity === "error" ? "✗" : "!"} ${one.message}`), `, since ${lately(one.since)}${one.over_seconds ? `, over for ${span(one.over_seconds)}` : ""}`),
      one.why && h("p", null, `Why: ${one.why}.`), one.cure && h("p", null, `What to do: ${one.cure}.`))));
}

/** @param {Api.CommonProblem[]} problems */
export function problemItems(problems) {
  if (!problems.length) return [h("li", { class: "good" }, "none")];
  return problems.map((one) => h("li", { "data-key": `${place(one.source)} ${one.who} ${one.message}` }, h("strong", { class: one.severity === "error" ? "bad" : "warn" }, one.severity),
    ` ${place(one.source)}: `, one.who && h("span", null, `${one.who}: `), one.message, one.hint && h("span", { class: "faint" }, ` (${one.hint})`),
    h("span", { class: "faint" }, `, since ${lately(one.since)}`)));
}
