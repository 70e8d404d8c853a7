import assert from "node:assert/strict";
import { test } from "node:test";

import { known, roundTimes, rounds, sparkPath, trail } from "./charts.js";
import { amount, coded, kib, percent, shortened, span, sum } from "./figures.js";
import { wanted } from "./guests.js";
import { parts, risen, room } from "./host.js";

test("sizes have three digits and the unit that suits them", () => {
  assert.deepEqual([0, 1, 999, 1000, 1536, 102400, 1 << 20, -2048].map(kib), ["0", "1 KiB", "999 KiB", "0.98 MiB", "1.50 MiB", "100 MiB", "1.00 GiB", "-2.00 MiB"]);
});

test("what is unknown is never 0", () => {
  for (const value of [undefined, null, NaN, Infinity]) assert.deepEqual([kib(value), percent(value), span(value)], ["–", "–", "–"]);
  assert.equal(amount(null, "KiB"), "unknown");
  assert.equal(amount(0, "KiB"), "0");
  assert.deepEqual([[], [null, undefined, NaN], [1, null, 2], [0, null]].map(sum), [null, null, 3, 0]);
});

test("spans of time are said as people say them", () => {
  assert.deepEqual([0, 0.0042, 0.25, 5, 42, 600, 7200, 864000].map(span), ["0 s", "4.2 ms", "250 ms", "5.0 s", "42 s", "10 min", "2 h", "10 d"]);
});

test("a name that is no text can stand in an address", () => {
  assert.equal(coded("a/b ü"), "a%2Fb%20%C3%BC");
  assert.equal(coded("\ud800"), "%EF%BF%BD");
});

test("a line is broken where nothing is known", () => {
  const same = (/** @type {number} */ n) => n;
  assert.equal(trail([1, null, 2, 3], same, same), "M0.0 1.0M2.0 2.0L3.0 3.0");
  assert.equal(sparkPath([null, 5]), "");
  assert.deepEqual(known([true, true, false, true]), [[0, 1], [3]]);
});

test("an axis has at most six round values", () => {
  for (const most of [0.003, 7, 512, 3 << 20, 1e12]) assert.ok(rounds(most, 1024).length <= 6 && rounds(most, 1024).length >= 2, String(most));
});

test("guests are found by part of a name, or by a pattern", () => {
  const guests = ["web-1", "web-10", "db.1", "x"].map((name) => ({ id: name, name, blocked: {}, fields: {} }));
  const names = (/** @type {string} */ pattern) => wanted(guests, pattern).map((one) => one.name);
  assert.deepEqual(names("WEB"), ["web-1", "web-10"]);
  assert.deepEqual(names("web-?"), ["web-1"]);
  assert.deepEqual(names("*.1"), ["db.1"]);
  assert.deepEqual(names("  "), ["web-1", "web-10", "db.1", "x"]);
});

test("the host's parts add up, and merged pages count once", () => {
  const made = parts({ fields: { mem_available: 1000, mem_really_available: 300, ksm_saved: 50 }, guests_together: { rss: 600 } });
  assert.deepEqual(made, { guests: 550, itself: 150, free: 300 });
  assert.deepEqual(parts({ fields: { mem_available: 1000, mem_really_available: 300 }, guests_together: { rss: null } }), { guests: null, itself: 700, free: 300 });
});

test("what is missing stands beside what should be free", () => {
  assert.equal(room({ mem_really_available: 4.25 * 2 ** 20, mem_watermark_high: 7.35 * 2 ** 20 }), "3.10 GiB too little: 7.35 GiB should be free");
  assert.equal(room({ mem_really_available: 8 * 2 ** 20, mem_watermark_high: 2 ** 20 }), "enough: 1.00 GiB should be free");
  assert.equal(room({ mem_really_available: 5 }), "");
});

test("long names differ after they are shortened", () => {
  assert.equal(shortened("ci-runner-customer-a-001", 16), "ci-runn…er-a-001");
  assert.equal(shortened("db-1", 16), "db-1");
  assert.equal([...shortened("数据库服务器生产环境第一号主节点备份节点", 9)].length, 9);
});

test("times on an axis are round, and days have their names", () => {
  const from = new Date(2026, 10, 24, 22, 10, 7).getTime() / 1000;
  const made = roundTimes(from, from + 4 * 3600, 5);
  assert.deepEqual(made.map(([time]) => new Date(time * 1000).getHours()), [23, 0, 1, 2]);
  assert.ok(made.every(([time]) => new Date(time * 1000).getMinutes() === 0) && made[1][1].includes("25"));
});

test("what is counted since midnight has risen by its difference, and begins anew", () => {
  assert.deepEqual(risen([3, 3, 5, null, 6, 7, 2]), [null, 0, 2, null, null, 1, 2]);
});
