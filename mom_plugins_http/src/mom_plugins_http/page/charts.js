// Charts as SVG, with a cursor that the mouse and the arrow keys move, and what stands there in words.

const CHART = { width: 900, left: 62, right: 8, top: 8, bottom: 20 };

// layers: [{label, fill | stroke, values, text?}] ; stacked areas where `stacked`, else lines. limit: values of a dashed line.
class Chart {
  constructor(caption, { small = false, stacked = false, text = kib, least = 0, limitLabel = "" } = {}) {
    Object.assign(this, { stacked, text, least, limitLabel, height: small ? 150 : 260, at: null, times: [], layers: [], limit: null });
    this.svg = drawn("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${this.height}`, preserveAspectRatio: "none", tabindex: 0, role: "img" });
    this.legend = h("ul", { class: "legend" });
    this.said = h("p", { class: "faint", "aria-live": "polite" });
    this.caption = caption;
    this.element = h("figure", { class: small ? "small" : "" }, h("figcaption", null, caption), this.svg, this.legend, this.said);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => { this.at = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  show(times, layers, limit = null) {
    Object.assign(this, { times, layers, limit });
    this.draw();
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - CHART.left) / Math.max(1, box.width - CHART.left - CHART.right);
    const time = this.times[0] + share * (this.times.at(-1) - this.times[0]);
    let best = 0;
    this.times.forEach((one, index) => { if (Math.abs(one - time) < Math.abs(this.times[best] - time)) best = index; });
    this.at = this.times[best] ?? null;
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined || !this.times.length) return;
    event.preventDefault();
    const now = this.at === null ? this.times.length : this.times.indexOf(this.at);
    this.at = this.times[Math.max(0, Math.min(this.times.length - 1, now + step))];
    this.draw();
    this.said.textContent = `${clock(this.at)}: ${this.layers.map((layer) => `${layer.label} ${this.text(layer.values[this.times.indexOf(this.at)])}`).join(", ")}`;
  }

  draw() {
    const width = this.svg.clientWidth || CHART.width;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    const { times, layers } = this;
    if (times.length < 2) {
      this.svg.replaceChildren(drawn("text", { x: 20, y: 30 }, "There are too few cycles yet."));
      this.legend.replaceChildren();
      return;
    }
    const sums = times.map((_, n) => layers.reduce((sum, layer) => sum + (layer.values[n] ?? 0), 0));
    const tops = this.stacked ? sums : layers.flatMap((layer) => layer.values.filter(isNumber));
    const most = Math.max(this.least, 1e-9, ...tops, ...(this.limit ?? []).filter(isNumber)) * 1.04;
    const bottom = this.height - CHART.bottom;
    const x = (n) => CHART.left + ((times[n] - times[0]) / Math.max(1e-9, times.at(-1) - times[0])) * (width - CHART.left - CHART.right);
    const y = (value) => bottom - (value / most) * (bottom - CHART.top);
    const parts = [];
    for (const value of rounds(most, this.text === span || this.text === percent ? 1000 : 1024)) {
      parts.push(drawn("line", { class: "axis", x1: CHART.left, x2: width - CHART.right, y1: y(value), y2: y(value) }));
      parts.push(drawn("text", { x: CHART.left - 6, y: y(value) + 4, "text-anchor": "end" }, this.text(value)));
    }
    const marks = Math.max(2, Math.min(6, Math.floor(width / 150), times.length));
    for (let mark = 0; mark < marks; mark++) {
      const n = Math.round((mark * (times.length - 1)) / (marks - 1));
      const anchor = mark === 0 ? "start" : mark === marks - 1 ? "end" : "middle";
      parts.push(drawn("text", { x: x(n), y: this.height - 5, "text-anchor": anchor }, clock(times[n])));
    }
    parts.push(...(this.stacked ? this.areas(x, y) : this.lines(x, y)));
    if (this.limit) parts.push(drawn("path", { class: "total", d: trail(this.limit, x, y) }));
    const index = this.at === null ? -1 : times.indexOf(this.at);
    if (index >= 0) parts.push(drawn("line", { class: "cursor", x1: x(index), x2: x(index), y1: CHART.top, y2: bottom }));
    this.svg.replaceChildren(...parts);
    const n = index >= 0 ? index : times.length - 1;
    const entries = layers.map((layer) => h("li", null, h("i", { class: layer.fill ?? layer.stroke }), `${layer.label}: ${this.text(layer.values[n])}`));
    if (this.limit) entries.push(h("li", null, h("i", { class: "dashes" }), `${this.limitLabel}: ${this.text(this.limit[n])}`));
    this.legend.replaceChildren(h("li", { class: "faint" }, index >= 0 ? clock(times[n]) : "now"), ...entries);
    const inWords = layers.map((layer) => `${layer.label} ${this.text(layer.values.at(-1))}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.caption}. Now: ${inWords}. The arrow keys read out earlier cycles.`);
  }

  areas(x, y) {
    const base = this.times.map(() => 0);
    return this.layers.map((layer) => {
      const low = this.times.map((_, n) => `${x(n).toFixed(1)},${y(base[n]).toFixed(1)}`).reverse();
      this.times.forEach((_, n) => { base[n] += layer.values[n] ?? 0; });
      const high = this.times.map((_, n) => `${x(n).toFixed(1)},${y(base[n]).toFixed(1)}`);
      return drawn("polygon", { class: layer.fill, points: [...high, ...low].join(" ") });
    });
  }

  lines(x, y) {
    return this.layers.map((layer) => drawn("path", { class: `line ${layer.stroke}`, d: trail(layer.values, x, y) }));
  }
}

// Round values from 0 on, at most six of them.
function rounds(most, thousand) {
  const unit = thousand ** Math.floor(Math.log(most) / Math.log(thousand));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((one) => one * unit).find((one) => most / one <= 5) ?? most;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

// A path through known values; it is broken where one is unknown.
function trail(values, x, y) {
  let d = "";
  let on = false;
  values.forEach((value, n) => {
    if (!isNumber(value)) { on = false; return; }
    d += `${on ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`;
    on = true;
  });
  return d;
}

function sparkPath(values) {
  const known = values.filter(isNumber);
  if (known.length < 2) return "";
  const least = Math.min(...known);
  const most = Math.max(...known);
  const flat = most - least <= 0.01 * Math.abs(most); // a smaller difference is no news
  return trail(values, (n) => 1 + (n * 108) / Math.max(1, values.length - 1), (value) => (flat ? 12 : 22 - ((value - least) / (most - least)) * 20));
}
