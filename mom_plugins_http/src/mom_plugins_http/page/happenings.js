// What was done, and what was said of it, as rows of tables.

import { h, heads } from "./elements.js";
import { amount, clock, coded, lately, place, span } from "./figures.js";

/** @import { Done, Mom, Note } from "./known.js" */

/** @type {Record<string, string>} */
export const TONE = { applied: "good", failed: "bad", refused: "warn", gone: "warn" };

/** @param {Mom} mom @param {Done} one @param {boolean} named whether the row says of whom */
export function happened(mom, one, named) {
  const unit = mom.unitOf(one.control);
  const who = one.entity.scope === "guest" ? h("a", { href: `#/guest/${coded(one.entity.id)}` }, one.entity.name) : one.entity.name;
  const outcome = [h("span", { class: TONE[one.status] ?? null }, one.status), one.error && `: ${one.error}`];
  return h("tr", { "data-key": `${one.time} ${one.entity.id} ${one.control}` }, h("td", null, clock(one.time)), named && h("td", null, who), h("td", null, one.control),
    h("td", null, amount(one.before, unit)), h("td", null, amount(one.value, unit)), h("td", null, outcome), h("td", { title: one.reason }, one.reason.split(": (")[0] || place(one.source))); // what a law says, without the policy's form
}

export const happeningHeads = () => heads("When", "Who", "What", "From", "To", "Outcome", "Why");

/** @param {Mom} mom @param {number} most @param {(one: Done | Note) => boolean} [wanted] */
export function recent(mom, most, wanted = () => true) {
  const found = mom.happenings.filter(wanted);
  if (!found.length) return [h("tr", null, h("td", { colspan: 7, class: "faint" }, `Nothing${mom.happenings.length ? " of that kind" : ""} for as long as mom remembers.`))];
  return found.slice(0, most).map((one) => ("text" in one ? noted(one) : happened(mom, one, true)));
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
