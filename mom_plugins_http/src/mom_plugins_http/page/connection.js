// How the page reaches mom. Where it is shown inside another page, as in Cockpit, a module with the same names stands in place of this one.

const TOKEN = "mom-token";


/** @returns {string | null} */
export const token = () => sessionStorage.getItem(TOKEN);

/** Kept until the tab is closed. @param {string | null} value null: none any more */
export function keepToken(value) {
  if (value === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
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
