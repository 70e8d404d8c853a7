// The page's connection to mom in Cockpit: one of Cockpit's channels to the control socket on the displayed host. The channel's process
// belongs to the logged-in user, or to root with administrative access. The kernel tells mom the process's user.

import { Refused } from "./api.js";

const { cockpit } = globalThis;
const SOCKET = cockpit.manifests.mom?.config?.socket ?? "/run/mom/mom.sock";
const MORE_RIGHTS = "click “Limited access” at the top of Cockpit to turn on administrative access";
const GROUP = "become a member of the group that `read_group` or `change_group` of mom's http plugin names, and log in again";

const ADMIN = cockpit.permission({ admin: true });

// The only command that this page runs with administrative access.
const startMom = () => cockpit.spawn(["systemctl", "start", "mom"], { superuser: "require", err: "message" });

function mayRun() {
  return new Promise((resolve) => {
    const tell = () => { if (ADMIN.allowed !== null) resolve(ADMIN.allowed); };
    ADMIN.addEventListener("changed", tell);
    tell();
  });
}

// Ask systemd whether mom runs if there is no socket.
async function withoutSocket() {
  const detail = `mom's control socket ${SOCKET} does not exist on this host`;
  const told = await cockpit.spawn(["systemctl", "show", "--property=LoadState,ActiveState", "mom.service"]).catch(() => "");
  if (/^LoadState=not-found$/m.test(told)) {
    return new Refused(502, { detail, hint: "install mom's package, or start mom by hand" }, { title: "mom is not installed as a service", command: "mom run" });
  }
  if (/^ActiveState=(active|reloading)$/m.test(told)) {
    const command = "plugins:\n  http: {}\n\n# in /etc/mom/mom.yaml; and then:\nsystemctl reload mom";
    const hint = "enable the http plugin in mom's configuration; if the plugin uses another socket, set the path in /etc/cockpit/mom.override.json";
    return new Refused(502, { detail, hint }, { title: "mom runs without the http plugin", command });
  }
  const why = /^ActiveState=failed$/m.test(told) ? ". mom has failed: journalctl -u mom shows the reason" : "";
  const start = await mayRun() ? startMom : undefined;
  return new Refused(502, { detail, hint: `start mom: systemctl start mom${why}` }, { title: "mom is not running", command: "systemctl start mom", start });
}

// Explain why Cockpit gets no answer. Newer versions of Cockpit report "not-found" for every failed connection.
async function refusal(problem, message) {
  if (problem === "access-denied" || /permission denied/i.test(message)) return new Refused(403, { detail: "you have no permission to use mom's control socket", hint: `${MORE_RIGHTS}; or ${GROUP}` }, NO_RIGHT);
  if (problem === "not-found") return withoutSocket();
  return new Refused(502, { detail: `Cockpit cannot reach mom: ${problem}`, hint: "read mom's log" }, { title: "mom does not answer", command: "journalctl -u mom" });
}

const NO_RIGHT = { title: "You have no permission to see mom", command: "" };

// mom's hint names only groups; in Cockpit, administrative access suffices too.
async function withWayToRights(answer) {
  const { detail, hint } = await answer.json();
  return new Refused(403, { detail, hint: `${MORE_RIGHTS}; otherwise: ${hint}` }, NO_RIGHT);
}

// Cockpit has logged the user in.
export const token = () => null;
export function keepToken() {}
export const forgetIfLost = () => false;

export function send(method, path, { headers = {}, body, signal }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const channel = cockpit.channel({ payload: "http-stream2", unix: SOCKET, superuser: "try", binary: true, method, path: `/${path}`, headers: { ...headers, host: "mom" } });
    let answered = false;
    let content = null;
    const stream = new ReadableStream({ start(controller) { content = controller; }, cancel() { channel.close(); } });
    const end = (error) => {
      signal.removeEventListener("abort", abort);
      try { if (error) content.error(error); else content.close(); } catch { /* the page has cancelled it */ }
    };
    const abort = () => {
      reject(signal.reason); // nothing, where an answer has begun
      end(signal.reason);
      channel.close("cancelled");
    };
    signal.addEventListener("abort", abort);
    channel.addEventListener("control", (_, { command, status, headers: given }) => {
      if (command !== "response") return;
      answered = true;
      const answer = new Response([204, 205, 304].includes(status) ? null : stream, { status, headers: given });
      if (status === 403) withWayToRights(answer).then(reject, reject); else resolve(answer);
    });
    channel.addEventListener("message", (_, part) => content.enqueue(new Uint8Array(part)));
    channel.addEventListener("close", (_, { problem, message }) => {
      if (!answered) refusal(problem ?? "no answer", message).then(reject, reject);
      end(problem ? new TypeError(problem) : null);
    });
    if (body) channel.send(new TextEncoder().encode(body));
    channel.control({ command: "done" });
  });
}
