// View of mom itself: cycles, plugins and problems.

import { problemItems } from "./acts.js";
import { Chart, Together } from "./charts.js";
import { h, heads, renew, scrolled, tile } from "./elements.js";
import { moment, span } from "./figures.js";

/** @import { Mom } from "./known.js" */

export class HealthView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "mom itself";
    this.cycle = h("dl", { class: "tiles" });
    this.chart = new Chart("How long cycles took", new Together(() => this.update()), { text: span, thousand: 1000 });
    this.plugins = h("tbody");
    this.problems = h("ul", { class: "plain" });
    this.element = h("div", null, h("h2", null, "How mom itself works"), this.cycle, this.chart.element, h("h3", null, "Plugins"),
      scrolled("Plugins", heads("Plugin", "State", "Took", "Calls", "Failed", "Last error"), this.plugins),
      h("h3", null, "Problems"), this.problems);
  }

  update() {
    const { report, samples, problems } = this.mom;
    renew(this.cycle, tile("Version", report.version), tile("Mode", report.mode), tile("Process", report.pid), tile("Running since", moment(report.started_at)),
      tile("Interval", span(report.interval_seconds)), tile("Cycles left out", report.cycle.skipped), tile("Woken by", report.cycle.woken_by || "its interval"));
    this.chart.show(samples.map((one) => one.time), [{ label: "cycle", look: "stroke-0", values: samples.map((one) => one.duration_seconds) }]);
    renew(this.problems, problemItems(problems));
    renew(this.plugins, report.plugins.map(pluginRow));
  }
}

/** @param {Api.Plugin} one */
function pluginRow(one) {
  const took = Object.values(one.durations_seconds).reduce((all, seconds) => all + seconds, 0);
  const again = one.retry_in_seconds ? `, tried again in ${span(one.retry_in_seconds)}` : "";
  return h("tr", { "data-key": one.name }, h("th", { scope: "row" }, one.name), h("td", { class: one.state === "ok" ? "good" : "bad" }, one.state + again),
    h("td", null, span(took)), h("td", null, one.calls), h("td", { class: one.failures ? "warn" : null }, one.failures),
    h("td", null, one.last_error));
}
