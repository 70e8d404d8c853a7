// View of policies: read, edit with checks, save over the version seen, roll back.

import { Refused, ask, get, said } from "./api.js";
import { h, seen, write } from "./elements.js";
import { coded, moment } from "./figures.js";

/** @import { Mom } from "./known.js" */

const CHECK_MS = 400;
const LINE = 19; // pixels, as in the style

/** Drafts by name, each with the version that it replaces; they outlive the view. @type {Map<string, { text: string, tag: string }>} */
export const drafts = new Map();

/** @typedef {Api.PolicyProblem & { tone: string }} Marked */

/** @param {Api.Change} one */
const tagOf = (one) => `"${one.version}"`;

/** Rebase drafts from version `over` to `now`, between which nobody else has changed anything. @param {string} over @param {string} now */
function goOn(over, now) {
  for (const draft of drafts.values()) if (draft.tag === over) draft.tag = now;
}

export class PoliciesView {
  /** @param {Mom} mom @param {string} name */
  constructor(mom, name) {
    this.mom = mom;
    this.name = name;
    this.title = "Policies";
    /** @type {Api.ListedPolicy[]} */
    this.items = [];
    this.tag = "";
    this.seenTag = "";
    /** @type {Marked[]} */
    this.problems = [];
    this.timer = 0;
    this.checking = 0;
    this.busy = false;
    this.may = mom.mayChange;
    this.names = h("nav", { class: "names", "aria-label": "Policies" });
    this.message = h("p", { class: "notice", role: "alert", hidden: true });
    this.heading = h("h3", { id: "editing" });
    this.origin = h("p", { class: "faint" });
    this.gutter = h("div", { class: "gutter", "aria-hidden": "true" });
    this.text = h("textarea", { "aria-labelledby": "editing", "aria-describedby": "verdict", spellcheck: "false", autocapitalize: "off", wrap: "off",
      readonly: !this.may, oninput: () => this.typed(), onscroll: () => { this.gutter.scrollTop = this.text.scrollTop; },
      onkeydown: (event) => {
        if (!(event.ctrlKey || event.metaKey) || event.key !== "s") return;
        event.preventDefault();
        if (this.may) this.save();
      } });
    this.verdict = h("p", { id: "verdict", role: "status" });
    this.found = h("ul", { class: "plain" });
    this.history = h("div");
    this.saving = h("button", { type: "button", class: "chief", onclick: () => this.save() }, "Save");
    this.dropping = h("button", { type: "button", onclick: () => this.discard() }, "Discard my changes");
    const buttons = this.may && h("div", { class: "bar" }, this.saving, this.dropping,
      h("button", { type: "button", onclick: () => this.remove() }, "Remove this policy"));
    // A new policy needs the version that it is based on, so the policies must be loaded first.
    this.newName = h("input", { "aria-label": "Name of a new policy", placeholder: "60_mine", maxlength: 128, required: true, disabled: true });
    const fresh = this.may && h("form", { class: "bar", onsubmit: (event) => {
      event.preventDefault();
      this.begin();
    } }, this.newName, h("button", { type: "submit" }, "New policy"));
    const reset = this.may && h("button", { type: "button", onclick: () => this.reset() }, "Drop all run-time changes, and read the files again");
    const rights = this.may ? null : h("p", { class: "notice" }, "You may read policies. To change them, you need the group or the token that the http plugin names as ",
      h("code", null, mom.me?.local ? "change_group" : "change_token"), ".");
    this.pane = h("div", { hidden: true }, this.heading, this.origin, h("div", { class: "editor" }, this.gutter, this.text), this.verdict, this.found, buttons);
    this.element = h("div", null, h("h2", null, "Policies"), rights, this.message, h("div", { class: "editing" }, h("div", null, this.names, fresh), this.pane),
      h("h3", null, "History"), reset && h("div", { class: "bar" }, reset), this.history);
    this.load();
  }

  async load() {
    try {
      this.take(await ask("GET", "v1/policies"));
      this.newName.disabled = false;
      const kept = this.name && (this.items.some((one) => one.name === this.name) || drafts.has(this.name));
      if (!kept) this.name = this.items[0]?.name ?? "";
      this.list();
      this.open();
      await this.past();
    } catch (error) {
      this.complain(error);
    }
  }

  /** Keep the policies in force, and drop drafts that equal them. @param {{ content: any, tag: string }} known */
  take({ content, tag }) {
    this.items = content.items;
    this.tag = tag;
    for (const one of this.items) if (drafts.get(one.name)?.text === one.text) drafts.delete(one.name);
  }

  update() {} // events report changes

  /** Another operator has changed the policies. @param {string} name */
  async tell(name) {
    if (name !== "policies" || !this.tag || this.busy) return;
    try {
      const known = await ask("GET", "v1/policies");
      if (known.tag === this.tag) return;
      this.take(known);
      this.list();
      if (!drafts.has(this.name)) this.open();
      await this.past();
    } catch { /* the banner shows the error */ }
  }

  list() {
    const names = [...new Set([...this.items.map((one) => one.name), ...drafts.keys()])].sort();
    this.names.replaceChildren(...names.map((name) => h("a", { href: `#/policies/${coded(name)}`, "aria-current": name === this.name ? "true" : null },
      name, drafts.has(name) && h("span", { class: "warn" }, " (not saved)"))));
  }

  open() {
    const stands = this.items.find((one) => one.name === this.name);
    const draft = drafts.get(this.name);
    this.pane.hidden = !stands && !draft;
    if (this.pane.hidden) return;
    write(this.heading, this.name);
    write(this.origin, stands ? `from ${stands.origin}` : "new: not in force yet");
    if (!draft) this.seenTag = this.tag;
    else this.seenTag = draft.tag;
    const text = draft?.text ?? stands?.text ?? "";
    if (this.text.value !== text) this.text.value = text;
    this.buttons();
    this.number();
    this.check();
  }

  buttons() {
    this.saving.disabled = this.dropping.disabled = !drafts.has(this.name);
  }

  typed() {
    const stands = this.items.find((one) => one.name === this.name);
    if (stands && stands.text === this.text.value) drafts.delete(this.name);
    else drafts.set(this.name, { text: this.text.value, tag: drafts.get(this.name)?.tag ?? this.seenTag });
    this.buttons();
    this.list();
    this.number();
    write(this.verdict, "…");
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.check(), CHECK_MS);
  }

  async check() {
    const number = ++this.checking;
    try {
      const { content } = await ask("POST", "v1/policy-check", { body: { changes: { [this.name]: this.text.value } } });
      if (number !== this.checking) return; // the text has changed since
      this.mark(content.problems, content.warnings);
    } catch (error) {
      if (number === this.checking) write(this.verdict, `The policy could not be checked: ${said(error)}`);
    }
  }

  /** Show problems, which block saving, and warnings. @param {Api.PolicyProblem[]} problems @param {Api.PolicyProblem[]} [warnings] */
  mark(problems, warnings = []) {
    this.problems = [...problems.map((one) => ({ ...one, tone: "bad" })), ...warnings.map((one) => ({ ...one, tone: "warn" }))];
    /** @param {unknown[]} several @param {string} what */
    const counted = (several, what) => `${several.length} ${what}${several.length > 1 ? "s" : ""}`;
    const hardly = warnings.length ? `; ${counted(warnings, "warning")}` : "";
    this.verdict.className = problems.length ? "bad" : warnings.length ? "warn" : "good";
    write(this.verdict, problems.length ? `✗ ${counted(problems, "problem")}: the policy cannot be saved${hardly}` : `✓ valid with all other policies: the policy can be saved${hardly}`);
    this.found.replaceChildren(...this.problems.slice(0, 50).map((one) => h("li", null,
      one.name === this.name && one.line ? h("button", { type: "button", onclick: () => this.go(one.line, one.column) }, `${one.line}:${one.column}`) : `${one.name}:${one.line}:${one.column}`,
      h("span", { class: one.tone }, one.tone === "warn" ? " warning: " : " "), `${one.kind}: ${one.message}`, one.hint && h("span", { class: "faint" }, ` (${one.hint})`))));
    if (this.problems.length > 50) this.found.append(h("li", { class: "faint" }, `and ${this.problems.length - 50} more`));
    this.number();
  }

  number() {
    const lines = this.text.value.split("\n").length;
    const marked = new Map(this.problems.filter((one) => one.name === this.name).reverse().map((one) => [one.line, one])); // the first of each line
    this.gutter.replaceChildren(...Array.from({ length: lines }, (_, n) => {
      const one = marked.get(n + 1);
      const sign = !one ? "" : one.tone === "warn" ? "! " : "✗ ";
      return h("div", { class: !one ? "" : one.tone === "warn" ? "mark hint" : "mark", title: one?.message ?? null }, `${sign}${n + 1}`);
    }));
    this.gutter.scrollTop = this.text.scrollTop;
  }

  /** @param {number} line @param {number} column */
  go(line, column) {
    const before = this.text.value.split("\n").slice(0, line - 1);
    const at = before.reduce((sum, one) => sum + one.length + 1, 0) + Math.max(0, column - 1);
    this.text.focus();
    this.text.setSelectionRange(at, Math.min(at + 1, this.text.value.length));
    this.text.scrollTop = Math.max(0, (line - 5) * LINE);
  }

  begin() {
    const name = this.newName.value.trim();
    if (!name) return;
    if (!this.items.some((one) => one.name === name) && !drafts.has(name)) drafts.set(name, { text: "# What this policy is for.\n", tag: this.tag });
    this.newName.value = "";
    location.hash = `#/policies/${coded(name)}`;
  }

  discard() {
    drafts.delete(this.name);
    this.message.hidden = true;
    this.load();
  }

  /** @param {string} over the version that was seen @param {(over: string) => Promise<{ tag: string }>} what @param {() => void} [done] */
  async change(over, what, done) {
    this.busy = true;
    try {
      this.tag = (await what(over)).tag;
      goOn(over, this.tag);
      done?.();
      this.busy = false;
      await this.load();
      return true;
    } catch (error) {
      this.complain(error);
      return false;
    } finally {
      this.busy = false;
    }
  }

  async save(tag = this.seenTag) {
    if (!drafts.has(this.name)) return;
    const { name } = this;
    const body = { changes: { [name]: this.text.value } };
    const saved = await this.change(tag, (over) => ask("PATCH", "v1/policies", { body, seen: over }), () => drafts.delete(name));
    if (saved) this.say(`${name} is saved, and in force from the next cycle on.`);
  }

  remove() {
    const { name } = this;
    if (!this.items.some((one) => one.name === name)) { this.discard(); return; }
    if (!confirm(`Remove the policy ${seen(name)} from the running mom?`)) return;
    const body = { changes: { [name]: null } };
    this.change(this.tag, (over) => ask("PATCH", "v1/policies", { body, seen: over }), () => drafts.delete(name));
  }

  reset() {
    if (!confirm("Drop all changes made at run time, and read the files again?")) return;
    this.change(this.tag, (over) => ask("POST", "v1/policy-reset", { seen: over }));
  }

  /** @param {string} version */
  back(version) {
    if (!confirm(`Restore all policies of version ${version}?`)) return;
    this.change(this.tag, (over) => ask("POST", "v1/policy-rollback", { body: { version }, seen: over }));
  }

  /** @param {string} text */
  say(text) {
    this.message.className = "notice";
    this.message.hidden = false;
    write(this.message, text);
  }

  /** @param {unknown} error */
  complain(error) {
    this.message.className = "notice bad";
    this.message.hidden = false;
    if (error instanceof Refused && error.status === 412) {
      this.message.replaceChildren("Somebody else has changed the policies since you began: nothing is saved. Your text is still here. ",
        h("button", { type: "button", onclick: () => this.theirs() }, "Show what changed"), " ",
        h("button", { type: "button", onclick: () => this.saveAllTheSame() }, "Save mine anyway"));
      return;
    }
    if (error instanceof Refused && error.problems.length) this.mark(error.problems);
    write(this.message, said(error));
  }

  async saveAllTheSame() {
    try {
      const { tag } = await ask("GET", "v1/policies");
      this.message.hidden = true;
      await this.save(tag);
    } catch (error) {
      this.complain(error);
    }
  }

  async theirs() {
    await this.past();
    const first = this.history.querySelector("details");
    if (!first) return;
    first.open = true;
    first.querySelector("summary")?.focus();
  }

  async past() {
    /** @type {{ items: Api.Change[] }} */
    const { items } = await get("v1/policy-history");
    // Versions with equal texts, for example after a reload.
    const changed = items.findIndex((one) => one.diff);
    for (const same of items.slice(1, changed < 0 ? items.length : changed + 1)) goOn(tagOf(same), tagOf(items[0] ?? same));
    this.seenTag = drafts.get(this.name)?.tag ?? this.seenTag;
    // Keep opened entries and the focus: the history is drawn again after each change.
    /** @param {Element | null | undefined} one */
    const versionOf = (one) => one?.getAttribute("data-version") ?? "";
    const opened = new Set([...this.history.querySelectorAll("details[open]")].map(versionOf));
    const at = this.history.contains(document.activeElement) ? versionOf(document.activeElement?.closest("details")) : "";
    this.history.replaceChildren(...items.map((one, n) => h("details", { "data-version": one.version, open: opened.has(one.version) },
      h("summary", null, `${moment(one.time)}, ${one.who}: ${one.what} `, h("span", { class: "faint" }, n ? one.version : `${one.version}, in force`)),
      h("pre", { tabindex: 0 }, one.diff.split("\n").map((line) => h("span", { class: line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : "" }, `${line}\n`))),
      this.may && n > 0 && h("button", { type: "button", onclick: () => this.back(one.version) }, "Restore this version"))));
    if (at) [...this.history.children].find((one) => versionOf(one) === at)?.querySelector("summary")?.focus();
    if (!items.length) this.history.replaceChildren(h("p", { class: "faint" }, "No changes yet."));
  }

  close() { clearTimeout(this.timer); }
}
