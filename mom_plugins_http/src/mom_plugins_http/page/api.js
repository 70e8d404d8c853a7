// Requests to mom, with a time limit, and with hints in errors.

import { send } from "./connection.js";

const ANSWER_MS = 15000;

/**
 * Content of the page before the first report. Only the page's own modules make it, never an answer.
 * @typedef {object} Instead
 * @property {string} title
 * @property {string} command for the operator to type on the host
 * @property {() => Promise<unknown>} [start] starts mom, if the page can
 */

/** Error: mom refuses, or cannot be reached. */
export class Refused extends Error {
  /** @param {number} status @param {{ detail?: string, hint?: string, problems?: Api.PolicyProblem[] }} problem @param {Instead} [instead] */
  constructor(status, problem, instead) {
    super(problem.detail ?? `mom answers with ${status}`);
    this.status = status;
    this.hint = problem.hint ?? "";
    this.instead = instead;
    this.problems = problem.problems ?? [];
  }
}

/** Error: the connection failed. */
export class Unreached extends TypeError {}

/** Text of an error. @param {unknown} error */
export function said(error) {
  if (error instanceof Refused) return [error.message, error.hint].filter(Boolean).join("; ");
  if (error instanceof Error && error.name === "TimeoutError") return "mom does not answer: it has hung, or this browser has the page open in more than five windows";
  return "mom cannot be reached";
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: unknown, seen?: string }} [options] seen: version of the policies that the operator has seen
 * @returns {Promise<{ content: any, tag: string }>}
 */
export async function ask(method, path, { body, seen } = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (seen) headers["if-match"] = seen;
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = { headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(ANSWER_MS) };
  const [answer, text] = await send(method, path, options).then(async (given) => /** @type {const} */ ([given, await given.text()]))
    .catch((error) => { throw error instanceof TypeError ? new Unreached(error.message) : error; });
  let content = {};
  try {
    content = text ? JSON.parse(text) : {};
  } catch {
    content = { detail: `unexpected answer, not from mom (${answer.status})` };
  }
  if (!answer.ok) throw new Refused(answer.status, content);
  return { content, tag: answer.headers.get("etag") ?? "" };
}

/** @param {string} path @returns {Promise<any>} */
export const get = async (path) => (await ask("GET", path)).content;
