// Guests that the hypervisor does not list are unknown, and not none.

import assert from "node:assert/strict";
import { test } from "node:test";

import { whyUnlisted } from "./known.js";

/** @param {unknown[][]} rows @param {number} over @param {string[]} plugins @returns {any} */
const report = (rows, over, plugins = ["core"]) => ({ guests: { columns: [], rows }, verdict: { severity: "error", conditions: [{ name: "guests", message: "the guests are unknown: no answer", plugins, over_seconds: over }] } });

test("guests are unknown while mom says so and none is listed", () => {
  assert.equal(whyUnlisted(report([], 0)), "the guests are unknown: no answer");
  for (const known of [report([["1", "web"]], 0), report([], 12), report([], 0, ["other"]), { guests: { columns: [], rows: [] }, verdict: null }]) assert.equal(whyUnlisted(known), "");
});
