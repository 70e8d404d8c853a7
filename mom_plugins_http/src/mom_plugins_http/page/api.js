// Asking mom: each request with a time limit, the token where there is one, and an error that says what to do.

const TOKEN = "mom-token";
const ANSWER_MS = 15000;
const SILENCE_MS = 40000; // without cycles there is a sign of life every 15 s

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `mom answers with ${status}`);
    this.status = status;
    this.hint = problem.hint ?? "";
    this.problems = problem.problems ?? [];
  }
}

function authorization() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function ask(method, path, { body, seen, signal } = {}) {
  const headers = { accept: "application/json", ...authorization() };
  if (seen) headers["if-match"] = seen;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store", credentials: "omit", redirect: "error", signal: signal ?? AbortSignal.timeout(ANSWER_MS),
  });
  const text = await answer.text();
  let content = {};
  try { content = text ? JSON.parse(text) : {}; } catch { content = { detail: `this is no answer of mom's (${answer.status})` }; }
  if (!answer.ok) throw new Refused(answer.status, content);
  return { content, tag: answer.headers.get("etag") ?? "" };
}

const get = async (path) => (await ask("GET", path)).content;

async function everything(path) {
  const items = [];
  for (let after = ""; ;) {
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=1000${after && `&after=${coded(after)}`}`);
    items.push(...page.items);
    if (page.next === null || items.length >= 20000) return items;
    after = page.next;
  }
}

// A browser has six connections to a place, and a stream takes one: a tab that is hidden asks nothing, and has none.
async function shown() {
  while (document.hidden) await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
}

// Calls `hear` with each cycle, `tell` with what else has changed, `lost` when the connection ends, `back` when it is there again, or when the
// tab is shown again. While `back` fails, as before the first cycle of a mom that has just started, it is tried anew: what was missed meanwhile
// comes from there only. EventSource cannot send a token.
async function listen(hear, tell, lost, back) {
  let end = new AbortController();
  let slept = false;
  let missed = false;
  document.addEventListener("visibilitychange", () => { if (document.hidden) { slept = true; end.abort(); } });
  for (let wait = 1000; ; wait = Math.min(wait * 1.5, 10000)) {
    await shown();
    slept = false;
    end = new AbortController();
    let timer = 0;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => end.abort(), SILENCE_MS); };
    try {
      alive();
      const answer = await fetch("/v1/events", { headers: authorization(), cache: "no-store", credentials: "omit", signal: end.signal });
      if (!answer.ok) {
        const problem = await answer.json().catch(() => ({}));
        throw new Refused(answer.status, problem);
      }
      if (missed) await back();
      missed = false;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        alive();
        rest += value;
        const parts = rest.split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          const lines = part.split("\n");
          const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
          const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
          if (data && name === "cycle") { hear(JSON.parse(data)); wait = 1000; } else if (data) tell(name, JSON.parse(data));
        }
      }
      if (!slept) lost(null);
    } catch (error) {
      if (!slept && lost(error) === "stop") return;
    } finally {
      clearTimeout(timer);
      end.abort();
    }
    missed = true; // what happens meanwhile is not told again
    if (!slept) await new Promise((resolve) => setTimeout(resolve, wait));
  }
}
