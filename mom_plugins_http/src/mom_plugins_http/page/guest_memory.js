// Parts of a guest's memory. They add up to its maximum.

import { isNumber } from "./figures.js";

/** @typedef {number | null} Kib unknown is null */

/** Parts from the bottom of the chart to its top: names and labels. */
export const PARTS = /** @type {const} */ ([
  ["used", "used"],
  ["untold", "in use or free (no statistics)"],
  ["merged", "merged by KSM"],
  ["cold", "cold"],
  ["swapped", "in the host's swap"],
  ["cache", "cache"],
  ["free", "free"],
  ["ballooned", "ballooned"],
]);

/** @typedef {(typeof PARTS)[number][0]} PartName */

/**
 * Parts from the guest's own statistics and from the host's. The host cannot see a page's use, so swapped, cold and merged pages are
 * subtracted from used memory first, then from cache, then from free memory.
 * @param {Record<string, any>} fields in KiB
 * @returns {Record<PartName, Kib>}
 */
export function memoryParts(fields) {
  /** @type {(name: string) => Kib} */
  const known = (name) => (isNumber(fields[name]) ? Math.max(0, fields[name]) : null);
  const [size, most, told, unused, usable, caches] = ["balloon_cur", "balloon_max", "mem_available", "mem_unused", "mem_usable", "mem_disk_caches"].map(known);
  /** @type {Record<PartName, Kib>} */
  const made = { used: null, untold: null, merged: null, cold: null, swapped: null, cache: null, free: null, ballooned: null };
  if (size === null) return made;
  if (most !== null) made.ballooned = Math.max(0, most - size);
  const late = told === null ? 0 : Math.max(0, told - size); // statistics from before the balloon grew: it takes free memory first
  if (unused !== null) made.free = Math.min(size, Math.max(0, unused - late));
  const rest = size - (made.free ?? 0);
  if (usable !== null) made.cache = Math.min(rest, Math.max(0, usable - late - (made.free ?? 0)));
  else if (caches !== null) made.cache = Math.min(rest, caches);
  const inside = made.free === null && made.cache === null ? "untold" : "used";
  made[inside] = rest - (made.cache ?? 0);

  /** @param {Kib} wanted @returns {Kib} */
  const take = (wanted) => {
    if (wanted === null) return null;
    let taken = 0;
    for (const name of /** @type {PartName[]} */ ([inside, "cache", "free"])) {
      const part = Math.min(made[name] ?? 0, wanted - taken);
      if (part > 0) made[name] = (made[name] ?? 0) - part;
      taken += Math.max(0, part);
    }
    return taken;
  };
  const [swapped, cold, merged] = ["host_swap", "cold", "host_ksm_merged"].map(known);
  made.swapped = take(swapped);
  made.cold = take(cold === null ? null : Math.max(0, cold - (swapped ?? 0))); // cold pages in swap count once
  made.merged = take(merged);
  return made;
}

/**
 * Usual use at that time, from the forecast plugin. It includes memory that the kernel does not count, so it is comparable to used memory.
 * @param {Record<string, any>} fields in KiB
 * @returns {Kib}
 */
export function expectedKib(fields) {
  const { mem_used_expected: expected, balloon_cur: size, mem_available: told } = fields;
  if (!isNumber(expected)) return null;
  return expected + (isNumber(size) && isNumber(told) ? Math.max(0, size - told) : 0);
}
