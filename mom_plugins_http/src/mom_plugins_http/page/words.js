// Elements, and figures as people say them. Texts become text nodes: a name can hold anything and stays a name.

function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function drawn(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const UNKNOWN = "–";
const coded = (text) => encodeURIComponent(String(text).toWellFormed()); // half a surrogate pair is no text that an address can hold

function kib(value) {
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

function percent(value, digits = 1) {
  return isNumber(value) ? `${value.toFixed(digits)} %` : UNKNOWN;
}

function span(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const moment = (seconds) => new Date(seconds * 1000).toLocaleString([], { hour12: false });

function amount(value, unit) {
  if (value === null || value === undefined) return "unknown";
  if (unit === "KiB" && isNumber(value)) return kib(value);
  const text = typeof value === "object" ? JSON.stringify(value) : isNumber(value) && !Number.isInteger(value) ? value.toFixed(2) : String(value);
  return ["count", "flag", "text", "list", "", undefined].includes(unit) ? text : `${text} ${unit}`;
}

const place = (source) => (source.line ? `${source.name}:${source.line}:${source.column}` : source.name);
