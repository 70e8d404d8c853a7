// Acts of mom and conditions of the host, in sentences.

import { h, heads, renew } from "./elements.js";
import { clock, coded, lately, place, shortened, span } from "./figures.js";

const NAME = 20; // most letters of a name in a sentence

/** @type {Record<string, string>} */
export const TONE = { applied: "good", failed: "bad", refused: "warn", gone: "warn" };

/** Link to a guest, with a shortened name. @param {{ id: string, name: string }} guest */
export const guestLink = (guest) => h("a", { href: `#/guest/${coded(guest.id)}`, title: guest.name, "aria-label": guest.name }, shortened(guest.name, NAME));

/** @param {Api.Act} act */
export function who({ about, first, who: words }) {
  const [one] = first;
  if (!one) return [words];
  const named = one.scope === "guest" ? guestLink(one) : one.name;
  return about > 1 ? [named, ` and ${about - 1} more`] : [named];
}

/** @param {Api.Act} act */
const when = ({ since, time }) => (clock(since) === clock(time) ? clock(time) : `${clock(since)} – ${clock(time)}`);

/** @param {Api.Act} act */
const keyOf = ({ since, who: words, control, text }) => `${since} ${words} ${control || text}`;

/** The last acts, one line each. @param {Api.Act[]} acts */
export function actItems(acts) {
  if (!acts.length) return [h("li", { class: "faint" }, "Nothing yet.")];
  return acts.map((act) => h("li", { "data-key": keyOf(act) }, h("span", { class: "faint" }, `${clock(act.time)} `), who(act), " ",
    h("span", { class: act.status === "applied" ? null : TONE[act.status] ?? null }, act.text)));
}

export const ACT_HEADS = ["When", "Who", "What", "Outcome", "Decided by"];

/** Acts as rows of a table. @param {HTMLElement} body @param {Api.Act[]} acts @param {string} none @param {boolean} [named] */
export function renewActs(body, acts, none, named = true) {
  renew(body, acts.length ? acts.map((act) => h("tr", { "data-key": keyOf(act) }, h("td", null, when(act)), named && h("td", null, who(act)), h("td", null, act.text),
    h("td", { class: TONE[act.status] ?? null }, act.status), h("td", { class: "faint" }, act.source && place(act.source))))
    : [h("tr", null, h("td", { colspan: 5, class: "faint" }, none))]);
}

/** @param {boolean} [named] */
export const actHeads = (named = true) => heads(...ACT_HEADS.filter((one) => named || one !== "Who"));

/** Headline of a condition: its message up to the first colon. @param {{ message: string }} condition */
export const headline = ({ message }) => message.split(": ")[0];

/** @param {string} text @param {Set<string>} names of guests, to be shortened in the text */
const withShortNames = (text, names) => text.replace(/[^\s,;:()]+/g, (word) => (names.has(word) ? shortened(word, NAME) : word));

/**
 * Conditions of the host as a whole, with start, reason and fix. The first condition and all errors are unfolded.
 * @param {Api.ReportDocument} report
 */
export function conditionItems({ verdict, guests }) {
  const names = new Set(guests.rows.map(([, name]) => name));
  const conditions = verdict?.conditions ?? [];
  if (!conditions.length) return [h("p", { class: "good" }, "Nothing.")];
  return conditions.map((one, n) => {
    const bad = one.severity === "error";
    const told = [one.message.slice(headline(one).length + 2), one.why && `Why: ${one.why}`].filter(Boolean).map((text) => `${text}. `).join("");
    return h("details", { "data-key": `${one.name} ${one.severity}`, class: bad ? "notice bad" : "notice", open: n === 0 || bad },
      h("summary", { title: one.message }, h("strong", null, `${bad ? "✗" : "!"} ${headline(one)}`), `, since ${lately(one.since)}${one.over_seconds ? `, over for ${span(one.over_seconds)}` : ""}`),
      told && h("p", null, withShortNames(told, names)), one.cure && h("p", null, `What to do: ${one.cure}.`));
  });
}

/** @param {Api.CommonProblem[]} problems */
export function problemItems(problems) {
  if (!problems.length) return [h("li", { class: "good" }, "None.")];
  return problems.map((one) => h("li", { "data-key": `${place(one.source)} ${one.who} ${one.message}` }, h("strong", { class: one.severity === "error" ? "bad" : "warn" }, one.severity),
    ` ${place(one.source)}: `, one.who && h("span", null, `${one.who}: `), one.message, one.hint && h("span", { class: "faint" }, ` (${one.hint})`),
    h("span", { class: "faint" }, `, since ${lately(one.since)}`)));
}
