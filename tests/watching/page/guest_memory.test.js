import assert from "node:assert/strict";
import { test } from "node:test";

import { PARTS, memoryParts } from "./guest_memory.js";

const WHOLE = { balloon_cur: 800, balloon_max: 1000, mem_unused: 100, mem_usable: 300, host_swap: 50, cold: 80, host_ksm_merged: 40 };

/** @param {Record<string, any>} fields */
const sum = (fields) => PARTS.reduce((total, [name]) => total + (memoryParts(fields)[name] ?? 0), 0);

test("each page is in one part: what is cold and swapped is counted once, out of what is used", () => {
  assert.deepEqual(memoryParts(WHOLE), { used: 380, untold: null, merged: 40, cold: 30, swapped: 50, cache: 200, free: 100, ballooned: 200 });
});

test("the parts add up to all that it may have, whatever is known and however it contradicts itself", () => {
  const names = Object.keys(WHOLE).filter((name) => !name.startsWith("balloon"));
  for (let known = 0; known < 2 ** names.length; known++) {
    for (const times of [0, 1, 7]) {
      const fields = { balloon_cur: 800, balloon_max: 1000, ...Object.fromEntries(names.filter((_, n) => known & (1 << n)).map((name) => [name, WHOLE[/** @type {keyof typeof WHOLE} */ (name)] * times])) };
      assert.equal(sum(fields), 1000, JSON.stringify(fields));
      for (const value of Object.values(memoryParts(fields))) assert.ok(value === null || value >= 0);
    }
  }
});

test("a guest that was made smaller since it told of itself has not used less for that", () => {
  const before = memoryParts({ ...WHOLE, mem_available: 800 });
  const { used, cache, free, ballooned } = memoryParts({ ...WHOLE, mem_available: 800, balloon_cur: 750 });
  assert.deepEqual({ used, cache, free, ballooned }, { used: before.used, cache: before.cache, free: 50, ballooned: 250 });
});

test("what is not known has no part", () => {
  assert.deepEqual(memoryParts({ balloon_cur: 800 }), { used: null, untold: 800, merged: null, cold: null, swapped: null, cache: null, free: null, ballooned: null });
  assert.equal(sum({ balloon_max: 1000, mem_unused: 5 }), 0);
  assert.equal(memoryParts({ balloon_cur: 800, mem_disk_caches: 300, host_swap: null }).swapped, null);
});
