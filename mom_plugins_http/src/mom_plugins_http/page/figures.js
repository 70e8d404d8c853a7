// Figures and times in words.

export const UNKNOWN = "–";

/** @param {unknown} value @returns {value is number} */
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const COLLATOR = new Intl.Collator(undefined, { numeric: true });

/** How two names are sorted: build-2 before build-10. @param {string} one @param {string} other */
export const inNaturalOrder = (one, other) => COLLATOR.compare(one, other) || (one < other ? -1 : Number(one > other));

/** Shorten a name in its middle, where names of one kind differ least. @param {string} name @param {number} most */
export function shortened(name, most) {
  const letters = [...name];
  if (letters.length <= most) return name;
  const end = Math.ceil((most - 1) / 2);
  return `${letters.slice(0, most - 1 - end).join("")}…${letters.slice(-end).join("")}`;
}

/** Sum of the known values; null if all are unknown. @param {unknown[]} values @returns {number | null} */
export function sum(values) {
  const known = values.filter(isNumber);
  return known.length ? known.reduce((one, other) => one + other, 0) : null;
}

/** @param {number | null | undefined} value in KiB */
export function kib(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (Math.abs(value) < 0.5) return "0";
  let size = Math.abs(value);
  for (const unit of ["KiB", "MiB", "GiB", "TiB", "PiB"]) {
    if (size < 999.5 || unit === "PiB") {
      const digits = unit === "KiB" || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
      return `${value < 0 ? "-" : ""}${size.toFixed(digits)} ${unit}`;
    }
    size /= 1024;
  }
  return UNKNOWN;
}

/** `2.22 of 96.0 GiB`: a shared unit appears once. @param {number | null | undefined} part in KiB @param {number | null | undefined} all in KiB */
export function kibOf(part, all) {
  const [amountOf, unit] = kib(part).split(" ");
  return `${unit && unit === kib(all).split(" ")[1] ? amountOf : kib(part)} of ${kib(all)}`;
}

/** @param {number | null | undefined} value in KiB a second */
export const kibPerSecond = (value) => (isNumber(value) ? `${kib(value)}/s` : UNKNOWN);

/** @param {number | null | undefined} value @param {number} [digits] */
export function percent(value, digits = 1) {
  return isNumber(value) ? `${value.toFixed(digits)} %` : UNKNOWN;
}

/** @param {number | null | undefined} seconds */
export function span(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** @type {Record<string, (value: number) => string>} */
const WRITTEN = { KiB: kib, "KiB/s": kibPerSecond, "%": (value) => percent(value), s: span };

/** A value in few words, by its unit. @param {unknown} value @param {string} unit */
export function figure(value, unit) {
  if (!isNumber(value)) return value === null || value === undefined ? UNKNOWN : String(value);
  return WRITTEN[unit]?.(value) ?? amount(value, unit);
}

/** @param {number} seconds since the epoch */
export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

/** @param {number} seconds since the epoch */
export const moment = (seconds) => new Date(seconds * 1000).toLocaleString([], { hour12: false });

/** Day and time, or only the time if it is today. @param {number} seconds since the epoch */
export const lately = (seconds) => (new Date(seconds * 1000).toDateString() === new Date().toDateString() ? clock(seconds) : moment(seconds));

/** The value of a field or control. @param {unknown} value @param {string} [unit] */
export function amount(value, unit = "") {
  if (value === null || value === undefined) return "unknown";
  if (unit === "KiB" && isNumber(value)) return kib(value);
  const text = typeof value === "object" ? JSON.stringify(value) : isNumber(value) && !Number.isInteger(value) ? value.toFixed(2) : String(value);
  return ["count", "flag", "text", "list", ""].includes(unit) ? text : `${text} ${unit}`;
}

/** Where a decision or problem comes from. @param {Api.Source} source */
export const place = (source) => (source.line ? `${source.name}:${source.line}:${source.column}` : source.name);

/** A string as a part of an address, which cannot contain half a surrogate pair. @param {string} text */
export const coded = (text) => encodeURIComponent(text.toWellFormed());
