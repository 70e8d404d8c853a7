// How much mom logs, and each of its plugins.

import { ask, get, said } from "./api.js";
import { h, renew, write } from "./elements.js";

const LEVELS = ["debug", "info", "warning", "error"];
const AS_MOM = "as mom";

export class LogLevel {
  /** @param {boolean} may change it @param {() => string[]} plugins that are enabled */
  constructor(may, plugins) {
    this.may = may;
    this.plugins = plugins;
    this.rows = h("tbody");
    this.message = h("div", { class: "notice bad", role: "alert", hidden: true });
    const head = h("thead", null, h("tr", null, h("th", { scope: "col" }, "What logs"), h("th", { scope: "col" }, "Level")));
    this.element = h("section", { "aria-label": "Log level" }, h("h3", null, "Log level"), this.message,
      h("details", null, h("summary", null, "Of mom, and of plugins"), h("p", { class: "faint" }, "Until mom ends, or its configuration is read again."), h("table", null, head, this.rows)));
  }

  async load() {
    this.show(await get("v1/log-level"));
  }

  /** @param {Api.LogLevels} known */
  show(known) {
    renew(this.rows, this.row("mom", null, known.level), this.plugins().map((name) => this.row(name, name, known.plugins[name] ?? AS_MOM)));
    for (const choice of this.rows.querySelectorAll("select")) choice.value = choice.dataset.level ?? "";
  }

  /** @param {string} label @param {string | null} plugin @param {string} level */
  row(label, plugin, level) {
    const choices = [...(plugin === null ? [] : [AS_MOM]), ...LEVELS].map((one) => h("option", { value: one }, one));
    const choice = this.may ? h("select", { "aria-label": `Log level of ${label}`, "data-level": level, onchange: (/** @type {Event} */ event) => this.change(plugin, event) }, choices) : level;
    return h("tr", { "data-key": label }, h("th", { scope: "row" }, label), h("td", null, choice));
  }

  /** @param {string | null} plugin @param {Event} event */
  async change(plugin, event) {
    const level = /** @type {HTMLSelectElement} */ (event.target).value;
    this.message.hidden = true;
    try {
      const body = { level: level === AS_MOM ? null : level, ...(plugin === null ? {} : { plugin }) };
      this.show((await ask("PUT", "v1/log-level", { body })).content);
    } catch (error) {
      this.message.hidden = false;
      write(this.message, said(error));
      await this.load();
    }
  }
}
