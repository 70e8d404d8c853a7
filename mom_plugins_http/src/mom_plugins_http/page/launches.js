// View of launches: available memory, reservations and admission.

import { Refused, ask, get, said } from "./api.js";
import { h, heads, renew, scrolled, seen, tile, write } from "./elements.js";
import { coded, kib, moment, span } from "./figures.js";

/** @import { Mom } from "./known.js" */

const LOOK_MS = 5000; // between two updates: mom sends no events about progress

export class LaunchesView {
  /** @param {Mom} mom */
  constructor(mom) {
    this.mom = mom;
    this.title = "Launches";
    this.looked = -Infinity;
    this.room = h("dl", { class: "tiles" });
    this.why = h("p", { class: "notice", hidden: true });
    this.body = h("tbody");
    this.ended = h("tbody");
    this.message = h("p", { class: "notice", role: "status", hidden: true });
    this.verdict = h("div", { role: "status" });
    const may = mom.mayChange;
    const columns = ["For", "Memory", "State", "Free", "Used by", "By whom", "Remark"];
    this.element = h("div", null, h("h2", null, "Launches"), this.room, this.why,
      h("h3", null, "Reserved"), this.message, may && this.reserveForm(),
      scrolled("Reserved", heads(...columns, "Ends in", ...(may ? ["Release"] : [])), this.body),
      h("details", null, h("summary", null, "Ended lately"), scrolled("Ended lately", heads(...columns, "Made at"), this.ended)),
      h("h3", null, "Would more guests fit?"), this.admissionForm(), this.verdict);
  }

  reserveForm() {
    const memory = h("input", { required: true, placeholder: "8GiB", size: 8, autocomplete: "off" });
    const deadline = h("input", { required: true, value: "10m", size: 6, autocomplete: "off" });
    const name = h("input", { placeholder: "db-*", maxlength: 200, size: 14, autocomplete: "off" });
    return form("Reserve", () => this.reserve(memory.value, deadline.value, name.value),
      h("label", null, "Memory ", memory), h("label", null, "for ", deadline), h("label", null, "for the guest (a pattern; empty for any) ", name));
  }

  admissionForm() {
    const memory = h("input", { required: true, placeholder: "8GiB", size: 8, autocomplete: "off" });
    const count = h("input", { type: "number", min: 1, max: 10000, value: 1, required: true });
    const kind = h("input", { size: 10, autocomplete: "off" });
    return form("Ask", () => this.admit(memory.value, count.value, kind.value),
      h("label", null, "Guests ", count), h("label", null, "of at most ", memory), h("label", null, "of the class (empty for the default) ", kind));
  }

  async update() {
    if (performance.now() - this.looked < LOOK_MS) return;
    this.looked = performance.now();
    /** @type {Api.Reservations} */
    const known = await get("v1/reservations");
    const { room } = known;
    renew(this.room, room ? [
      tile("Could be reserved", kib(room.most_kib), `${kib(room.free_kib)} of it is free already`),
      tile("Reserved", kib(room.reserved_kib)),
      tile("Guests can release", kib(room.can_free_kib + room.can_offload_kib), `${kib(room.can_offload_kib)} of it cold`),
      tile("Being returned", kib(room.returning_kib)),
      room.rising_kib > 0 && tile("Guests will need soon", kib(room.rising_kib), room.rise),
      tile("Kept for guests' guarantees", kib(room.guaranteed_kib)),
      tile("Kept for the host", kib(room.host_keeps_kib), `${kib(room.available_kib)} are available`),
    ] : [tile("Could be reserved", "unknown", "no enabled plugin makes room for launches, or the host's memory is unknown")]);
    this.why.hidden = !room?.why;
    write(this.why, room?.why ? `Guests release nothing: ${room.why}` : "");
    renew(this.body, known.items.length ? known.items.map((one) => this.row(one, h("td", null, span(one.expires_in_seconds)), this.mom.mayChange && this.giveUp(one))) : [none(9)]);
    renew(this.ended, known.ended.length ? known.ended.map((one) => this.row(one, h("td", null, moment(one.created_at)))) : [none(8)]);
  }

  /** @param {string} name */
  tell(name) {
    if (name !== "reservations") return undefined;
    this.looked = -Infinity;
    return this.update();
  }

  /** @param {Api.Reservation} one @param {...(HTMLElement | false)} more */
  row(one, ...more) {
    const soon = one.expected_kib > 0 && one.expected_in_seconds !== null ? `, the rest in ${span(one.expected_in_seconds)}` : "";
    return h("tr", { "data-key": one.id }, h("th", { scope: "row" }, one.name || one.id), h("td", null, kib(one.memory_kib)), h("td", null, one.state),
      h("td", null, `${kib(one.there_kib)} of ${kib(one.kept_kib)}${soon}`), h("td", null, one.guest && h("a", { href: `#/guest/${coded(one.guest.id)}` }, one.guest.name)),
      h("td", null, one.who), h("td", null, one.note), more);
  }

  /** @param {Api.Reservation} one */
  giveUp(one) {
    return h("td", null, h("button", { type: "button", "aria-label": `Release the reservation for ${one.name || one.id}`, onclick: () => this.release(one) }, "Release"));
  }

  /** @param {() => Promise<string>} what makes the change, and returns its result as text */
  async change(what) {
    this.message.hidden = false;
    try {
      this.message.className = "notice";
      write(this.message, await what());
    } catch (error) {
      this.message.className = "notice bad";
      write(this.message, said(error));
    }
    this.looked = -Infinity;
    await this.update();
  }

  /** @param {string} memory @param {string} deadline @param {string} name */
  reserve(memory, deadline, name) {
    return this.change(async () => {
      /** @type {Api.Reservation} */
      const made = (await ask("POST", "v1/reservations", { body: { memory, deadline, name } })).content;
      return `${kib(made.memory_kib)} reserved for ${made.name || made.id}: ${made.state}.`;
    });
  }

  /** @param {Api.Reservation} one */
  async release(one) {
    if (!confirm(`Release the ${kib(one.memory_kib)} reserved for ${seen(one.name || one.id)}?`)) return;
    await this.change(async () => {
      await ask("DELETE", `v1/reservations/${coded(one.id)}`);
      return `The reservation for ${one.name || one.id} is released.`;
    });
  }

  /** @param {string} memory @param {string} count @param {string} kind */
  async admit(memory, count, kind) {
    try {
      /** @type {Api.Admission} */
      const found = await get(`v1/admission?memory=${coded(memory)}&count=${coded(count)}${kind && `&class=${coded(kind)}`}`);
      const guests = `${found.count} guest${found.count === 1 ? "" : "s"} of ${kib(found.memory_kib)}`;
      renew(this.verdict, h("p", { class: found.admitted ? "notice" : "notice bad" }, h("strong", null, `${found.admitted ? "✓" : "✗"} ${guests} ${found.admitted ? "fit" : "do not fit"}`),
        `: ${found.fits} would fit${found.sla_class && ` in the class ${found.sla_class}`}, each guaranteed ${kib(found.guarantee_kib)}.`),
      h("ul", null, found.reasons.map((reason) => h("li", null, reason))),
      found.donors.length > 0 && h("p", null, "Guests that would have to shrink: ", found.donors.map((one) => `${one.guest.name} ${kib(one.kib)} of its ${one.promise ? "promise" : "memory"}`).join(", ")));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      renew(this.verdict, h("p", { class: "notice bad" }, said(error)));
    }
  }
}

/** @param {number} columns */
const none = (columns) => h("tr", { "data-key": "" }, h("td", { colspan: columns, class: "faint" }, "none"));

/** @param {string} verb @param {() => Promise<void>} sent @param {...HTMLElement} fields */
function form(verb, sent, ...fields) {
  const button = h("button", { type: "submit", class: "chief" }, verb);
  return h("form", { class: "bar", onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await sent();
    } finally {
      button.disabled = false;
    }
  } }, fields, button);
}
