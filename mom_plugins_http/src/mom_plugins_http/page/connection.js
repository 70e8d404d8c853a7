// Connection to mom. Inside another page, such as Cockpit, a module with the same names replaces this one.

const TOKEN = "mom-token";
const LEAVING_MS = 5000; // leaving or reloading a page ends its connections, but not the tunnel

let left = -LEAVING_MS;
globalThis.addEventListener?.("beforeunload", () => { left = performance.now(); });

/** @returns {string | null} */
export const token = () => sessionStorage.getItem(TOKEN);

/** Keep a token until the tab closes. @param {string | null} value null: forget it */
export function keepToken(value) {
  if (value === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
}

/**
 * Without TLS, another user may have the port after a failed connection, because ssh may have ended. So forget the token.
 * Returns whether there was one.
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
