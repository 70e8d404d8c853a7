// Charts as SVG, with a cursor that the mouse and the arrow keys move, and what stands there in words.

import { drawn, h, renew, write } from "./elements.js";
import { clock, isNumber, kib, moment } from "./figures.js";

const WIDTH = 900; // pixels, until it is known
const MARGIN = { left: 62, right: 8, top: 8, bottom: 20 };
const MARK = 5; // pixels from the middle of a mark to its points
const DAY = 86400;

/** @typedef {number | null | undefined} Figure unknown is null or undefined */

/**
 * @typedef {object} Layer
 * @property {string} label
 * @property {string} look its class in the style
 * @property {Figure[]} values one for each time
 */

/**
 * @typedef {object} Mark something that has happened, on the axis of time
 * @property {number} time
 * @property {string} tone
 * @property {string} text
 */

export class Chart {
  /**
   * @param {string} caption
   * @param {object} [options]
   * @param {boolean} [options.small]
   * @param {boolean} [options.stacked] areas on top of each other, rather than lines
   * @param {(value: Figure) => string} [options.text] a value in words
   * @param {number} [options.thousand] of what round values are powers
   * @param {number} [options.least] the axis reaches to this at least
   * @param {string} [options.limitLabel] what the dashed line is
   */
  constructor(caption, { small = false, stacked = false, text = kib, thousand = 1024, least = 0, limitLabel = "" } = {}) {
    this.caption = caption;
    this.stacked = stacked;
    this.text = text;
    this.thousand = thousand;
    this.least = least;
    this.limitLabel = limitLabel;
    this.height = small ? 150 : 260;
    this.live = true; // what stands at the right is now
    /** @type {number | null} */
    this.at = null; // the time where the cursor stands
    /** @type {number[]} */
    this.times = [];
    /** @type {Layer[]} */
    this.layers = [];
    /** @type {Figure[] | null} */
    this.limit = null;
    /** @type {Mark[]} */
    this.marks = [];
    this.svg = drawn("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${this.height}`, preserveAspectRatio: "none", tabindex: 0, role: "img", "aria-label": caption });
    this.legend = h("ul", { class: "legend" });
    this.said = h("p", { class: "faint", "aria-live": "polite" });
    this.element = h("figure", { class: small ? "small" : "" }, h("figcaption", null, caption), this.svg, this.legend, this.said);
    const leave = () => {
      this.at = null;
      this.draw();
    };
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", leave);
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  /** @param {number[]} times oldest first @param {Layer[]} layers @param {Figure[] | null} [limit] a dashed line @param {Mark[]} [marks] */
  show(times, layers, limit = null, marks = []) {
    this.times = times;
    this.layers = layers;
    this.limit = limit;
    this.marks = marks;
    this.draw();
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / Math.max(1, box.width - MARGIN.left - MARGIN.right);
    this.at = this.times[this.nearest(this.times[0] + share * (this.times[this.times.length - 1] - this.times[0]))] ?? null;
    this.draw();
  }

  /** @param {number} time @returns {number} */
  nearest(time) {
    let best = 0;
    this.times.forEach((one, index) => { if (Math.abs(one - time) < Math.abs(this.times[best] - time)) best = index; });
    return best;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined || !this.times.length) return;
    event.preventDefault();
    const now = this.at === null ? this.times.length : this.times.indexOf(this.at);
    const index = Math.max(0, Math.min(this.times.length - 1, now + step));
    this.at = this.times[index];
    this.draw();
    const happened = this.marksAt(index).map((mark) => mark.text).join("; ");
    write(this.said, `${this.when(this.at)}: ${this.inWords(index)}${happened && `. ${happened}`}`);
  }

  /** @param {number} time */
  when(time) {
    return this.times[this.times.length - 1] - this.times[0] > DAY / 2 ? moment(time) : clock(time);
  }

  /** @param {number} index */
  inWords(index) {
    return this.layers.map((layer) => `${layer.label} ${this.text(layer.values[index])}`).join(", ");
  }

  /** What has happened nearer to this time than to others. @param {number} index */
  marksAt(index) {
    return this.marks.filter((mark) => this.nearest(mark.time) === index);
  }

  draw() {
    const width = this.svg.clientWidth || WIDTH;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    const { times, layers, limit } = this;
    if (times.length < 2) {
      this.svg.replaceChildren(drawn("text", { x: 20, y: 30 }, "There are too few cycles yet."));
      this.legend.replaceChildren();
      return;
    }
    const [first, last] = [times[0], times[times.length - 1]];
    const sums = times.map((_, n) => layers.reduce((sum, layer) => sum + (layer.values[n] ?? 0), 0));
    const tops = this.stacked ? sums : layers.flatMap((layer) => layer.values.filter(isNumber));
    const most = Math.max(this.least, 1e-9, ...tops, ...(limit ?? []).filter(isNumber)) * 1.04;
    const bottom = this.height - MARGIN.bottom;
    const across = width - MARGIN.left - MARGIN.right;
    /** @param {number} time */
    const along = (time) => MARGIN.left + ((time - first) / Math.max(1e-9, last - first)) * across;
    /** @param {number} n */
    const x = (n) => along(times[n]);
    /** @param {number} value */
    const y = (value) => bottom - (value / most) * (bottom - MARGIN.top);
    const parts = [];
    for (const value of rounds(most, this.thousand)) {
      parts.push(drawn("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
      parts.push(drawn("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, this.text(value)));
    }
    const ticks = Math.max(2, Math.min(6, Math.floor(width / (last - first > DAY / 2 ? 220 : 150))));
    for (let tick = 0; tick < ticks; tick++) {
      const time = first + (tick * (last - first)) / (ticks - 1);
      const anchor = tick === 0 ? "start" : tick === ticks - 1 ? "end" : "middle";
      parts.push(drawn("text", { x: along(time), y: this.height - 5, "text-anchor": anchor }, this.when(time)));
    }
    parts.push(...(this.stacked ? this.areas(x, y) : layers.map((layer) => drawn("path", { class: `line ${layer.look}`, d: trail(layer.values, x, y) }))));
    if (limit) parts.push(drawn("path", { class: "total", d: trail(limit, x, y) }));
    for (const mark of this.marks) {
      if (mark.time < first || mark.time > last) continue;
      const middle = along(mark.time);
      const points = `${middle},${bottom - 2 * MARK} ${middle + MARK},${bottom} ${middle - MARK},${bottom}`;
      parts.push(drawn("polygon", { class: `mark ${mark.tone}`, points }, drawn("title", null, mark.text)));
    }
    const index = this.at === null ? -1 : times.indexOf(this.at);
    if (index >= 0) parts.push(drawn("line", { class: "cursor", x1: x(index), x2: x(index), y1: MARGIN.top, y2: bottom }));
    this.svg.replaceChildren(...parts);
    this.tell(index);
  }

  /** What stands at the cursor, or now. @param {number} index */
  tell(index) {
    const n = index >= 0 ? index : this.times.length - 1;
    const entries = this.layers.map((layer) => h("li", null, h("i", { class: layer.look }), `${layer.label}: ${this.text(layer.values[n])}`));
    if (this.limit) entries.push(h("li", null, h("i", { class: "dashes" }), `${this.limitLabel}: ${this.text(this.limit[n])}`));
    const happened = index >= 0 ? this.marksAt(index).map((mark) => h("li", { class: mark.tone }, `▲ ${mark.text}`)) : [];
    renew(this.legend, h("li", { class: "faint" }, index < 0 && this.live ? "now" : this.when(this.times[n])), entries, happened);
    this.svg.setAttribute("aria-label", `${this.caption}. ${this.live ? "Now" : "At last"}: ${this.inWords(this.times.length - 1)}. The arrow keys read out earlier times.`);
  }

  /** Areas on top of each other, in as many parts as there are times without a gap: where no layer is known there is none. @param {(n: number) => number} x @param {(value: number) => number} y */
  areas(x, y) {
    const base = this.times.map(() => 0);
    const runs = known(this.times.map((_, n) => this.layers.some((layer) => isNumber(layer.values[n]))));
    return this.layers.flatMap((layer) => {
      const low = [...base];
      this.times.forEach((_, n) => { base[n] += layer.values[n] ?? 0; });
      return runs.map((run) => {
        const above = run.map((n) => `${x(n).toFixed(1)},${y(base[n]).toFixed(1)}`);
        const below = run.map((n) => `${x(n).toFixed(1)},${y(low[n]).toFixed(1)}`).reverse();
        return drawn("polygon", { class: layer.look, points: [...above, ...below].join(" ") });
      });
    });
  }
}

/** The indices of what is true, in runs without a gap. @param {boolean[]} flags @returns {number[][]} */
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

/** Round values from 0 on, at most six of them. @param {number} most @param {number} thousand @returns {number[]} */
export function rounds(most, thousand) {
  const unit = thousand ** Math.floor(Math.log(most) / Math.log(thousand));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((one) => one * unit).find((one) => most / one <= 5) ?? most;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

/** A path through known values; it is broken where one is unknown. @param {Figure[]} values @param {(n: number) => number} x @param {(value: number) => number} y */
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
  const flat = most - least <= 0.01 * Math.abs(most); // a smaller difference is no news
  return trail(values, (n) => 1 + (n * 108) / Math.max(1, values.length - 1), (value) => (flat ? 12 : 22 - ((value - least) / (most - least)) * 20));
}

