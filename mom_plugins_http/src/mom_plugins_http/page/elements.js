// Elements of the document. Strings become text nodes, so that a name cannot inject elements.

const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu; // invisible characters, and those that change the direction of text
const READ = ["title", "aria-label", "placeholder"]; // attributes that people read

/** Text whose invisible characters are made visible, so that no name can pose as another. @param {unknown} text */
export const seen = (text) => String(text).replace(UNSEEN, (one) => `\\u{${(one.codePointAt(0) ?? 0).toString(16)}}`);

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes */

/**
 * A new element. An attribute `onNAME` is a listener.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes | null} [attributes]
 * @param {...(Child | Child[] | NodeListOf<ChildNode>)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, READ.includes(name) ? seen(value) : String(value));
  }
  made.append(...present(children));
  return made;
}

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes | null} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function drawn(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, String(value));
  made.append(...present(children));
  return made;
}

/** @param {any[]} children @returns {(Node | string)[]} */
function present(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : seen(child)));
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {Element} element @param {string | number} text */
export function write(element, text) {
  const now = seen(text);
  if (element.textContent !== now) element.textContent = now;
}

/**
 * Make these the children of an element, and change only differences, so that focus, scroll position and selection stay. A new child
 * with `data-key` updates the child with that key; any other new child updates the child at its place. Existing listeners stay.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function renew(parent, ...children) {
  /** @type {Map<string, Element>} */
  const keyed = new Map();
  for (const child of parent.children) {
    const key = child.getAttribute("data-key");
    if (key !== null) keyed.set(key, child);
  }
  /** @type {ChildNode | null} */
  let at = parent.firstChild;
  for (const one of present(children)) {
    const node = typeof one === "string" ? document.createTextNode(one) : one;
    const key = keyOf(node);
    /** @type {Node | null} */
    const before = key === null ? (at && keyOf(at) === null ? at : null) : keyed.get(key) ?? null;
    if (key !== null) keyed.delete(key);
    if (before && before.nodeName === node.nodeName) {
      if (before !== at && isHeld(before)) moveBehind(parent, at, before);
      else if (before !== at) parent.insertBefore(before, at);
      become(before, node);
      at = before.nextSibling;
    } else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Whether a node has the focus or selected text. It would lose them if it were moved. @param {Node} node */
const isHeld = (node) => node.contains(document.activeElement) || getSelection()?.containsNode(node, true);

/** Move preceding siblings behind a child. @param {Element} parent @param {ChildNode | null} at the first of them @param {Node} before the child */
function moveBehind(parent, at, before) {
  const behind = before.nextSibling;
  while (at && at !== before) {
    const next = at.nextSibling;
    parent.insertBefore(at, behind);
    at = next;
  }
}

/** @param {Node} node */
const keyOf = (node) => (node instanceof Element ? node.getAttribute("data-key") : null);

/** @param {Node} before @param {Node} now */
function become(before, now) {
  if (!(before instanceof Element && now instanceof Element)) {
    if (before.nodeValue !== now.nodeValue) before.nodeValue = now.nodeValue;
    return;
  }
  if (before.isEqualNode(now)) return;
  for (const name of before.getAttributeNames()) if (!now.hasAttribute(name) && name !== "open") before.removeAttribute(name);
  for (const name of now.getAttributeNames()) {
    if (name === "open") continue; // the reader folds and unfolds
    const value = now.getAttribute(name) ?? "";
    if (before.getAttribute(name) !== value) before.setAttribute(name, value);
  }
  renew(before, ...now.childNodes);
}

/** The head of a table. @param {string[]} names */
export function heads(...names) {
  return h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name))));
}

/**
 * A table that scrolls if it is wider than the window, also by keyboard.
 * @param {string} label @param {HTMLTableSectionElement} head @param {HTMLTableSectionElement} body
 */
export function scrolled(label, head, body) {
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, h("table", null, head, body));
}

/** Notice where there is nothing to show: state, reason, and what to do. @param {string} icon one character @param {string} title @param {string} text @param {...Child} actions */
export function emptyState(icon, title, text, ...actions) {
  return h("div", { class: "empty", "data-icon": icon }, h("h2", null, title), h("p", null, text), actions);
}

/** @param {string} label @param {string | number} value @param {string | null} [more] @param {string} [tone] */
export function tile(label, value, more, tone) {
  return h("div", { "data-key": label }, h("dt", null, label), h("dd", { class: tone || null }, value, more && h("small", { title: more }, more)));
}
