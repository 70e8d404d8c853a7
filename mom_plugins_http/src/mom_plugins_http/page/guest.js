// One guest: why it has its size, how it went, and all that is known of it.

const TOPICS = { now: "Now", needs: "Needs", class: "Class", guaranteed: "Guaranteed", since: "Since", host: "The host", wanted: "Wanted",
  why: "Why", review: "Review", done: "Done", problems: "Problems", next: "Next", unknown: "Not known", trial: "On trial" };

class GuestView {
  constructor(mom, id) {
    Object.assign(this, { mom, id, title: "Guest", asking: false });
    this.name = h("h2", null, "Guest");
    this.told = h("dl", { class: "told" });
    this.trouble = h("p", { class: "notice", hidden: true });
    this.memory = new Chart("Memory", { limitLabel: "most" });
    this.swap = new Chart("Swapped in", { small: true, least: 64, text: (value) => (isNumber(value) ? `${kib(value)}/s` : UNKNOWN) });
    this.done = h("tbody");
    this.known = h("tbody");
    const heads = (...names) => h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name))));
    this.element = h("div", null, h("p", null, h("a", { href: "#/guests" }, "← all guests")), this.name, this.trouble,
      h("h3", null, "Why it has this size"), this.told, this.memory.element, this.swap.element,
      h("h3", null, "Decided in the last cycles"), h("div", { class: "scroll" }, h("table", null, heads("When", "Control", "From", "To", "Outcome", "By"), this.done)),
      h("h3", null, "All that is known of it"), h("div", { class: "scroll" }, h("table", null, heads("Field", "Value", "What it says"), this.known)));
  }

  async update() {
    if (this.asking) return;
    this.asking = true;
    try {
      const path = `/v1/guests/${coded(this.id)}`;
      const [guest, explanation, history, done] = await Promise.all([get(path), get(`${path}/explanation`), get(`${path}/history?limit=720`),
        get(`/v1/recent-outcomes?limit=30&guest=${coded(this.id)}`)]);
      this.trouble.hidden = true;
      this.show(guest, explanation, history.items.reverse(), done.items);
    } catch (error) {
      this.trouble.hidden = false;
      this.trouble.textContent = error.status === 404 ? `${error.message}. It may have been stopped, or moved to another host.` : error.message;
    } finally {
      this.asking = false;
    }
  }

  show(guest, explanation, past, about) {
    write(this.name, guest.name);
    this.title = guest.name;
    document.title = `${guest.name} – mom`;
    let topic = "";
    this.told.replaceChildren(...explanation.sentences.flatMap((sentence) => {
      const label = sentence.topic === topic ? "" : TOPICS[sentence.topic] ?? sentence.topic;
      topic = sentence.topic;
      return [h("dt", null, label), h("dd", null, sentence.text)];
    }));
    const times = past.map((sample) => sample.time);
    const values = (name) => past.map((sample) => sample.fields[name]);
    this.memory.show(times, [
      { label: "size", stroke: "stroke-0", values: values("balloon_cur") },
      { label: "usable in it", stroke: "stroke-2", values: values("mem_usable") },
      { label: "on the host", stroke: "stroke-1", values: values("rss") },
      { label: "in the host's swap", stroke: "stroke-3", values: values("host_swap") },
    ], values("balloon_max"));
    this.swap.show(times, [{ label: "swapped in", stroke: "stroke-1", values: values("swap_in") }]);
    this.done.replaceChildren(...(about.length ? about.map((one) => happened(this.mom, one, false))
      : [h("tr", null, h("td", { colspan: 6, class: "faint" }, "Nothing for as long as mom remembers."))]));
    const fields = Object.entries(guest.fields).filter(([, value]) => value !== null).sort(([a], [b]) => (a < b ? -1 : 1));
    this.known.replaceChildren(...fields.map(([name, value]) => {
      const spec = this.mom.fields.get(`guest.${name}`) ?? { unit: "", description: "" };
      return h("tr", null, h("th", { scope: "row" }, name), h("td", null, amount(value, spec.unit)), h("td", { class: "faint" }, spec.description));
    }));
  }
}

const TONE = { applied: "good", failed: "bad", refused: "warn", gone: "warn" };

function happened(mom, one, named) {
  const unit = mom.controls.get(one.control)?.unit ?? "";
  const who = one.entity.scope === "guest" ? h("a", { href: `#/guest/${coded(one.entity.id)}` }, one.entity.name) : one.entity.name;
  const outcome = [h("span", { class: TONE[one.status] ?? "" }, one.status), one.error && `: ${one.error}`];
  return h("tr", null, h("td", null, clock(one.time)), named && h("td", null, who), h("td", null, one.control), h("td", null, amount(one.before, unit)),
    h("td", null, amount(one.value, unit)), h("td", null, outcome), h("td", { title: one.reason }, place(one.source)));
}
