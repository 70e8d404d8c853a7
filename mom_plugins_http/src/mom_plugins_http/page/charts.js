// Charts as SVG. Mouse and arrow keys move a cursor; its values appear as text. Dragging zooms.

import { drawn, h, renew, write } from "./elements.js";
import { clock, isNumber, kib, moment } from "./figures.js";

const WIDTH = 900; // pixels, before the layout
const MARGIN = { left: 62, right: 8, top: 8, bottom: 20 };
const MARK = 5; // pixels from the middle of a mark to its points
const TOLD = 4; // most marks that the text describes at one place
const DRAGGED = 6; // fewer pixels are a click
const CLOSEST = 10; // seconds, the shortest period to zoom to
const DAY = 86400;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 30 * DAY]; // seconds between round times

/** @typedef {number | null | undefined} Figure unknown is null or undefined */
/** @typedef {[number, number]} Time from when to when */

/**
 * @typedef {object} Layer
 * @property {string} label
 * @property {string} look CSS class
 * @property {Figure[]} values one for each time
 * @property {[Figure[], Figure[]]} [range] smallest and largest values
 * @property {boolean} [line] a line across the areas
 * @property {Figure[]} [told] values for the text, if not those drawn
 */

/**
 * @typedef {object} Mark event on the time axis
 * @property {number} time
 * @property {string} tone
 * @property {string} text
 * @property {boolean} [top] at the top of the chart, not at its bottom
 */

/** Charts with a common cursor and zoom. */
export class Together {
  /** @param {() => void} changed called after a zoom: each chart must be drawn again */
  constructor(changed) {
    this.changed = changed;
    /** @type {Chart[]} */
    this.charts = [];
    /** @type {number | null} */
    this.at = null; // time of the cursor
    /** @type {Time[]} */
    this.parts = []; // zoomed periods, each within the previous
  }

  get part() { return this.parts.at(-1) ?? null; }

  /** @param {number | null} at */
  point(at) {
    if (at === this.at) return;
    this.at = at;
    for (const chart of this.charts) chart.draw();
  }

  /** @param {number} from @param {number} to */
  closer(from, to) {
    if (to - from < CLOSEST) return;
    this.parts.push([from, to]);
    this.changed();
  }

  /** Zoom out; returns whether it was possible. @param {boolean} whole to the whole time at once */
  back(whole) {
    if (!this.parts.length) return false;
    this.parts.length = whole ? 0 : this.parts.length - 1;
    this.changed();
    return true;
  }
}

export class Chart {
  /**
   * @param {string} caption
   * @param {Together} together
   * @param {object} [options]
   * @param {"areas" | "lines" | "bars"} [options.kind] stacked areas, lines, or counts since the previous time
   * @param {number} [options.height]
   * @param {(value: Figure) => string} [options.text] a value as text
   * @param {number} [options.thousand] base of round values
   * @param {number} [options.least] the axis reaches at least this value
   */
  constructor(caption, together, { kind = "lines", height = 150, text = kib, thousand = 1024, least = 0 } = {}) {
    this.caption = caption;
    this.together = together;
    this.kind = kind;
    this.text = text;
    this.thousand = thousand;
    this.least = least;
    this.height = height;
    this.live = true; // the right end is now
    /** @type {Time} */
    this.span = [0, 0];
    /** @type {number[]} */
    this.times = [];
    /** @type {Layer[]} */
    this.layers = [];
    /** @type {Mark[]} */
    this.marks = [];
    /** @type {number | null} */
    this.dragged = null; // start time of a drag
    this.svg = drawn("svg", { class: `chart ${kind}`, viewBox: `0 0 ${WIDTH} ${height}`, height, preserveAspectRatio: "none", tabindex: 0, role: "img", "aria-label": caption });
    this.legend = h("ul", { class: "legend" });
    this.said = h("p", { class: "said faint", "aria-live": "polite" });
    this.element = h("figure", null, h("figcaption", null, caption), this.svg, this.legend, this.said);
    const leave = () => {
      this.dragged = null;
      together.point(null);
    };
    this.svg.addEventListener("pointerdown", (event) => {
      this.dragged = this.timeAt(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => together.point(this.times[this.nearest(this.timeAt(event))] ?? null));
    this.svg.addEventListener("pointerup", (event) => this.drop(event));
    this.svg.addEventListener("pointercancel", leave);
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("dblclick", () => together.back(true));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", leave);
    new ResizeObserver(() => this.draw()).observe(this.svg);
    together.charts.push(this);
  }

  /**
   * @param {number[]} times oldest first @param {Layer[]} layers
   * @param {object} [more]
   * @param {Mark[]} [more.marks]
   * @param {Time | null} [more.span] period to show, even without data
   * @param {number} [more.gap] seconds between two times from which on lines are interrupted
   */
  show(times, layers, { marks = [], span = null, gap = Infinity } = {}) {
    const [from, to] = this.together.part ?? span ?? [times[0], times[times.length - 1]];
    /** @type {number[]} */
    const places = []; // -1: a gap
    times.forEach((time, n) => {
      if (time < from || time > to) return;
      if (places.length && time - times[n - 1] > gap) places.push(-1);
      places.push(n);
    });
    /** @param {Figure[]} values */
    const cut = (values) => places.map((n) => values[n]);
    this.span = [from, to];
    this.times = places.map((n, place) => times[n] ?? (times[places[place - 1]] + times[places[place + 1]]) / 2);
    this.layers = layers.map((layer) => ({ ...layer, values: cut(layer.values), told: layer.told && cut(layer.told), range: layer.range && [cut(layer.range[0]), cut(layer.range[1])] }));
    this.marks = marks.filter((mark) => mark.time >= from && mark.time <= to);
    this.draw();
  }

  /** @param {PointerEvent} event */
  timeAt(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / Math.max(1, box.width - MARGIN.left - MARGIN.right);
    return this.span[0] + Math.max(0, Math.min(1, share)) * (this.span[1] - this.span[0]);
  }

  /** @param {PointerEvent} event */
  drop(event) {
    const from = this.dragged;
    const to = this.timeAt(event);
    this.dragged = null;
    if (from === null) return;
    if (Math.abs(this.along(to) - this.along(from)) >= DRAGGED) this.together.closer(Math.min(from, to), Math.max(from, to));
    else this.draw();
  }

  /** @param {number} time @returns {number} */
  nearest(time) {
    let best = 0;
    this.times.forEach((one, index) => { if (Math.abs(one - time) < Math.abs(this.times[best] - time)) best = index; });
    return best;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { together, times } = this;
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey || !times.length) return;
    if (event.key === "+" || event.key === "=") {
      const [from, to] = this.span;
      const begins = Math.max(from, Math.min((from + to) / 2, (together.at ?? to) - (to - from) / 4)); // half the time, around the cursor
      together.closer(begins, begins + (to - from) / 2);
    } else if (event.key === "-" || event.key === "Escape") {
      if (together.back(event.key === "Escape")) event.stopPropagation();
    } else if (step !== undefined) {
      event.preventDefault();
      const now = together.at === null ? times.length : this.nearest(together.at);
      const index = Math.max(0, Math.min(times.length - 1, now + step));
      together.point(times[index]);
      const happened = this.marksAt(index).slice(0, TOLD).map((mark) => mark.text).join("; ");
      write(this.said, `${this.when(times[index])}: ${this.inWords(index)}${happened && `. ${happened}`}`);
    }
  }

  /** @param {number} time */
  when(time) {
    return this.span[1] - this.span[0] > DAY / 2 || !this.live ? moment(time) : clock(time);
  }

  /** @param {Layer} layer @param {number} index */
  figure(layer, index) {
    const [least, most] = layer.range?.map((values) => this.text(values[index])) ?? [];
    const value = this.text((layer.told ?? layer.values)[index]);
    return least === most ? value : `${value} (${least} to ${most})`;
  }

  /** @param {number} index */
  inWords(index) {
    return this.layers.map((layer) => `${layer.label} ${this.figure(layer, index)}`).join(", ");
  }

  /** Marks that are nearer to this time than to others. @param {number} index */
  marksAt(index) {
    return this.marks.filter((mark) => this.nearest(mark.time) === index);
  }

  get width() { return this.svg.clientWidth || WIDTH; }

  /** Horizontal position of a time. @param {number} time */
  along(time) {
    const [from, to] = this.span;
    return MARGIN.left + ((time - from) / Math.max(1e-9, to - from)) * (this.width - MARGIN.left - MARGIN.right);
  }

  draw() {
    const { times, layers, width, together, span: [from, to] } = this;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    if (times.length < 2) {
      this.svg.replaceChildren(drawn("text", { x: 20, y: 30 }, this.live ? "Waiting for the second cycle." : "No data for this period."));
      this.legend.replaceChildren();
      return;
    }
    const areas = this.kind === "areas" ? layers.filter((layer) => !layer.line) : [];
    const lines = layers.filter((layer) => !areas.includes(layer));
    const tops = [...times.map((_, n) => areas.reduce((all, layer) => all + (layer.values[n] ?? 0), 0)), ...lines.flatMap((layer) => [layer.values, layer.range?.[1] ?? []].flat().filter(isNumber))];
    const most = tops.reduce((one, other) => Math.max(one, other), Math.max(this.least, 1e-9)) * 1.04;
    const bottom = this.height - MARGIN.bottom;
    /** @param {number} n */
    const x = (n) => this.along(times[n]);
    /** @param {number} value */
    const y = (value) => bottom - (value / most) * (bottom - MARGIN.top);
    /** @param {string} look @param {number} at */
    const upright = (look, at) => drawn("line", { class: look, x1: this.along(at), x2: this.along(at), y1: MARGIN.top, y2: bottom });
    const parts = [];
    for (const value of rounds(most, this.thousand, this.height)) {
      parts.push(drawn("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
      parts.push(drawn("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, this.text(value)));
    }
    for (const [time, label] of roundTimes(from, to, Math.max(2, (width - MARGIN.left - MARGIN.right) / 75))) {
      const place = this.along(time);
      const anchor = place > width - MARGIN.right - 25 ? "end" : "middle";
      parts.push(upright("axis", time), drawn("text", { x: place, y: this.height - 5, "text-anchor": anchor }, label));
    }
    parts.push(...this.areas(areas, x, y));
    for (const { look, values, range } of lines) {
      if (this.kind === "bars") {
        const bars = values.map((value, n) => (isNumber(value) && value > 0 ? `M${x(n).toFixed(1)} ${bottom}V${y(value).toFixed(1)}` : "")).join("");
        parts.push(drawn("path", { class: look, d: bars, "stroke-width": Math.max(2, Math.min(12, (0.7 * (width - MARGIN.left)) / times.length)) }));
        continue;
      }
      if (range) parts.push(...band(range[0], range[1], x, y, `band ${look}`));
      parts.push(drawn("path", { class: `line ${look}`, d: trail(values, x, y) }));
    }
    for (const { middle, top, tone, texts } of this.placedMarks()) {
      const [point, base] = top ? [MARGIN.top + 2 * MARK, MARGIN.top] : [bottom - 2 * MARK, bottom];
      parts.push(drawn("polygon", { class: `mark ${tone}`, points: `${middle},${point} ${middle + MARK},${base} ${middle - MARK},${base}` }, drawn("title", null, texts.slice(0, TOLD).join("\n"))));
    }
    const index = together.at === null ? -1 : this.nearest(together.at);
    if (index >= 0) parts.push(upright("cursor", times[index]));
    if (index >= 0 && this.dragged !== null) {
      const [left, right] = [this.along(this.dragged), x(index)].sort((one, other) => one - other);
      parts.push(drawn("rect", { class: "dragged", x: left, width: right - left, y: MARGIN.top, height: bottom - MARGIN.top }));
    }
    this.svg.replaceChildren(...parts);
    this.tell(index);
  }

  /** Marks with their places. Marks of one kind at one place are joined. */
  placedMarks() {
    /** @type {Map<string, { middle: number, top: boolean, tone: string, texts: string[] }>} */
    const placed = new Map();
    for (const { time, tone, text, top = false } of this.marks) {
      const middle = Math.round(this.along(time) / (2 * MARK)) * 2 * MARK;
      const key = `${middle} ${tone} ${top}`;
      const there = placed.get(key);
      if (there) there.texts.push(text);
      else placed.set(key, { middle, top, tone, texts: [text] });
    }
    return placed.values();
  }

  /** Show the values at the cursor, or now. @param {number} index */
  tell(index) {
    const n = index >= 0 ? index : this.times.length - 1;
    const entries = this.layers.map((layer) => h("li", null, h("i", { class: layer.line ? `dashes ${layer.look}` : layer.look }), `${layer.label}: ${this.figure(layer, n)}`));
    const happened = index >= 0 ? this.marksAt(index).slice(0, TOLD).map((mark) => h("li", { class: mark.tone }, `${mark.top ? "▼" : "▲"} ${mark.text}`))
      : [this.marks.some((mark) => !mark.top) && h("li", null, "▲ mom acted"), this.marks.some((mark) => mark.top) && h("li", { class: "bad" }, "▼ programs killed")];
    const now = this.live && !this.together.part;
    renew(this.legend, h("li", { class: "faint" }, index < 0 && now ? "now" : this.when(this.times[n])), entries, happened);
    this.svg.setAttribute("aria-label", `${this.caption}. ${now ? "Now" : "Last"}: ${this.inWords(this.times.length - 1)}. The arrow keys read out earlier times, + zooms in, - zooms out.`);
  }

  /** Stacked areas, interrupted where no layer has a known value. @param {Layer[]} layers @param {(n: number) => number} x @param {(value: number) => number} y */
  areas(layers, x, y) {
    /** @type {(number | null)[]} */
    let base = this.times.map((_, n) => (layers.some((layer) => isNumber(layer.values[n])) ? 0 : null));
    return layers.flatMap((layer) => {
      const low = base;
      base = low.map((value, n) => (value === null ? null : value + (layer.values[n] ?? 0)));
      return band(low, base, x, y, layer.look);
    });
  }
}

/** Area between two lines, interrupted where a value is unknown. @param {Figure[]} low @param {Figure[]} high @param {(n: number) => number} x @param {(value: number) => number} y @param {string} look */
function band(low, high, x, y, look) {
  return known(low.map((value, n) => isNumber(value) && isNumber(high[n]))).map((run) => {
    /** @param {Figure[]} values */
    const points = (values) => run.map((n) => `${x(n).toFixed(1)},${y(values[n] ?? 0).toFixed(1)}`);
    return drawn("polygon", { class: look, points: [...points(high), ...points(low).reverse()].join(" ") });
  });
}

/** At most `most` round times of this time zone, with their labels. @param {number} from @param {number} to @param {number} most @returns {[number, string][]} */
export function roundTimes(from, to, most) {
  const step = STEPS.find((one) => (to - from) / one <= most) ?? 30 * DAY;
  /** @param {number} time */
  const zone = (time) => new Date(time * 1000).getTimezoneOffset() * 60;
  /** @type {[number, string][]} */
  const made = [];
  for (let local = Math.ceil((from - zone(from)) / step) * step; ; local += step) {
    const time = local + zone(local + zone(from)); // summer time may begin in between
    if (time > to) return made;
    const date = new Date(time * 1000);
    const isDay = !(date.getHours() || date.getMinutes() || date.getSeconds());
    made.push([time, isDay ? date.toLocaleDateString([], { day: "numeric", month: "short" }) : date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hour12: false })]);
  }
}

/** Indices of true flags, in runs without a gap. @param {boolean[]} flags @returns {number[][]} */
export function known(flags) {
  /** @type {number[][]} */
  const runs = [];
  flags.forEach((flag, n) => {
    if (!flag) return;
    if (n > 0 && flags[n - 1]) runs[runs.length - 1].push(n);
    else runs.push([n]);
  });
  return runs;
}

/** Round values from 0: at most six, or four in a low chart. @param {number} most @param {number} thousand @param {number} [height] @returns {number[]} */
export function rounds(most, thousand, height = 260) {
  const unit = thousand ** Math.floor(Math.log(most) / Math.log(thousand));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((one) => one * unit).find((one) => most / one <= (height < 200 ? 3 : 5)) ?? most;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

/** A path through known values, interrupted where a value is unknown. @param {Figure[]} values @param {(n: number) => number} x @param {(value: number) => number} y */
export function trail(values, x, y) {
  let d = "";
  let on = false;
  values.forEach((value, n) => {
    if (!isNumber(value)) {
      on = false;
      return;
    }
    d += `${on ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`;
    on = true;
  });
  return d;
}

/** A small line without axes, 110 by 24. @param {Figure[]} values */
export function sparkPath(values) {
  const figures = values.filter(isNumber);
  if (figures.length < 2) return "";
  const least = Math.min(...figures);
  const most = Math.max(...figures);
  const flat = most - least <= 0.01 * Math.abs(most); // ignore smaller differences
  return trail(values, (n) => 1 + (n * 108) / Math.max(1, values.length - 1), (value) => (flat ? 12 : 22 - ((value - least) / (most - least)) * 20));
}

