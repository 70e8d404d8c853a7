// Event stream: the end of each cycle, and other changes.

import { Refused, get } from "./api.js";
import { send } from "./connection.js";

const SILENCE_MS = 40000; // mom sends a keep-alive every 15 s

/** Wait until the tab is visible. Browsers limit connections to six, so a hidden tab has no stream. */
export async function shown() {
  while (document.hidden) await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
}

/**
 * @typedef {object} Listener
 * @property {string} fields guests' fields in the report
 * @property {(report: Api.ReportDocument) => void} hear called for each cycle
 * @property {(name: string, content: any) => void} tell called for other events
 * @property {(error: unknown) => "stop" | "again"} lost called when the connection has ended; error: null if the server has ended it
 * @property {() => Promise<void>} back called after the first report of a connection, to load missed data; a failure ends
 *   the connection
 */

/** Listen while the page exists. EventSource cannot send a token. @param {Listener} listener */
export async function listen({ fields, hear, tell, lost, back }) {
  let end = new AbortController();
  let slept = false;
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return;
    slept = true;
    end.abort();
  });
  for (let wait = 1000; ; wait = Math.min(wait * 1.5, 10000)) {
    await shown();
    slept = false;
    end = new AbortController();
    let timer = 0;
    const alive = () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => end.abort(), SILENCE_MS);
    };
    try {
      alive();
      const answer = await send("GET", "v1/events", { signal: end.signal });
      if (!answer.ok || !answer.body) throw new Refused(answer.status, await answer.json().catch(() => ({})));
      let missed = true; // earlier events are not repeated
      for await (const [name, content] of events(answer.body, alive)) {
        if (name !== "cycle") {
          tell(name, content);
          continue;
        }
        hear(await get(`v1/report?fields=${fields}`));
        if (missed) await back();
        missed = false;
        wait = 1000;
      }
      if (!slept) lost(null);
    } catch (error) {
      if (!slept && lost(error) === "stop") return;
    } finally {
      clearTimeout(timer);
      end.abort();
    }
    if (!slept) await new Promise((resolve) => { setTimeout(resolve, wait); });
  }
}

/**
 * Names and contents of events.
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} alive called after each piece of data
 * @returns {AsyncGenerator<[string, any]>}
 */
async function* events(body, alive) {
  const reader = body.pipeThrough(/** @type {ReadableWritablePair<string, any>} */ (new TextDecoderStream())).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const lines = part.split("\n");
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "";
      if (data) yield [name, JSON.parse(data)];
    }
  }
}
