// How the page reaches mom. Where it is shown inside another page, as in Cockpit, a module with the same names stands in place of this one.

const TOKEN = "mom-token";
const LEAVING_MS = 5000; // a page that is left or loaded anew loses its connections, and not the port

let left = -LEAVING_MS;
globalThis.addEventListener?.("beforeunload", () => { left = performance.now(); });

/** @returns {string | null} */
export const token = () => sessionStorage.getItem(TOKEN);

/** Kept until the tab is closed. @param {string | null} value null: none any more */
export function keepToken(value) {
  if (value === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
}

/**
 * Without TLS, nobody says who has the port once a connection fails: ssh may have ended, and another user have taken it. What was known to
 * mom is told nobody there any more. Whether there was something to forget.
 * @param {unknown} error
 */
export function forgetIfLost(error) {
  const lost = error instanceof TypeError && location.protocol === "http:" && token() !== null && performance.now() - left > LEAVING_MS;
  if (lost) keepToken(null);
  return lost;
}

/**
 * @param {string} method
 * @param {string} path relative to the page, such as `v1/report`
 * @param {{ headers?: Record<string, string>, body?: string, signal: AbortSignal }} options
 * @returns {Promise<Response>}
 */
export function send(method, path, { headers = {}, body, signal }) {
  const known = token();
  return fetch(path, {
    method, body, signal, headers: known ? { authorization: `Bearer ${known}`, ...headers } : headers,
    cache: "no-store", credentials: "omit", redirect: "error",
  });
}
