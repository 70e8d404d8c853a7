// What was decided again and again is one row.

import assert from "node:assert/strict";
import { test } from "node:test";

import { folded } from "./happenings.js";

/** @param {number} time @param {string} id @param {string} reason @param {string} [status] @returns {any} */
const done = (time, id, reason, status = "applied") => ({ time, entity: { scope: "guest", id, name: id }, control: "balloon_target", reason, status, error: "", source: { name: "50_balloon" } });

test("decisions of one guest for the same reason are one, whatever is decided of others meanwhile and whatever figures stand in it", () => {
  const note = { time: 7, about: "policies", text: "set 60_mine" };
  const all = [done(9, "a", "its need is 2.5 GiB: (guest.Control 1)"), done(8, "b", "its need is 9 MiB"), note, done(6, "a", "its need is 3 GiB: (guest.Control 2)"),
    done(5, "a", "the host is full"), done(4, "a", "its need is 3 GiB"), done(3, "b", "its need is 9 MiB", "failed")];
  assert.deepEqual(folded(all).map((group) => group.map((one) => one.time)), [[9, 6], [8], [7], [5], [4], [3]]);
});
