// Names of guests come from others: what they are drawn as.

import assert from "node:assert/strict";
import { test } from "node:test";

import { seen } from "./elements.js";

test("what turns the direction of a text or cannot be seen is shown", () => {
  assert.equal(seen("vm\u202Egpj.exe"), "vm\\u{202e}gpj.exe");
  assert.equal(seen("a\u0007\u200B\u2066\u2028\uFEFF\u{E0041}b"), "a\\u{7}\\u{200b}\\u{2066}\\u{2028}\\u{feff}\\u{e0041}b");
});

test("all else stays", () => {
  assert.equal(seen("Zoë 日本 – ½ GiB\n\t(x)"), "Zoë 日本 – ½ GiB\n\t(x)");
  assert.equal(seen(5), "5");
});
