// How the page reaches mom in Cockpit: through a channel of Cockpit's to the control socket on the host that is shown. Behind the channel is a process
// of the user who has logged in, or of root where that user has turned on administrative access: mom is told by the kernel which.

import { Refused } from "./api.js";

const { cockpit } = globalThis;
const SOCKET = cockpit.manifests.mom?.config?.socket ?? "/run/mom/mom.sock";
const MORE_RIGHTS = "“Limited access” at the top of Cockpit turns on administrative access";
const GROUP = "become a member of the group that `read_group` or `change_group` of mom's plugin http names, and log in again";

const ADMIN = cockpit.permission({ admin: true });

// All that this page ever runs with administrative access.
const startMom = () => cockpit.spawn(["systemctl", "start", "mom"], { superuser: "require", err: "message" });

function mayRun() {
  return new Promise((resolve) => {
    const tell = () => { if (ADMIN.allowed !== null) resolve(ADMIN.allowed); };
    ADMIN.addEventListener("changed", tell);
    tell();
  });
}

// Ask systemd whether mom runs, where there is no socket.
async function withoutSocket() {
  const detail = `no mom listens at ${SOCKET} on this host`;
  const told = await cockpit.spawn(["systemctl", "show", "--property=LoadState,ActiveState", "mom.service"]).catch(() => "");
  if (/^LoadState=not-found$/m.test(told)) {
    return new Refused(502, { detail, hint: "install its package, or start it by hand" }, { title: "mom is not installed as a service", command: "mom run" });
  }
  if (/^ActiveState=(active|reloading)$/m.test(told)) {
    const command = "plugins:\n  http: {}\n\n# in /etc/mom/mom.yaml; and then:\nsystemctl reload mom";
    const hint = "enable the plugin http in its configuration; where it has another socket, say so in /etc/cockpit/mom.override.json";
    return new Refused(502, { detail, hint }, { title: "mom runs, without the plugin http", command });
  }
  const why = /^ActiveState=failed$/m.test(told) ? ". It has failed: journalctl -u mom says why" : "";
  const start = await mayRun() ? startMom : undefined;
  return new Refused(502, { detail, hint: `start it: systemctl start mom${why}` }, { title: "mom does not run", command: "systemctl start mom", start });
}

// Say why Cockpit gets no answer. Newer Cockpits report "not-found" for every failed connection.
async function refusal(problem, message) {
  if (problem === "access-denied" || /permission denied/i.test(message)) return new Refused(403, { detail: "you may not use mom's control socket", hint: `${MORE_RIGHTS}; or ${GROUP}` }, NO_RIGHT);
  if (problem === "not-found") return withoutSocket();
  return new Refused(502, { detail: `Cockpit cannot reach mom: ${problem}`, hint: "look at mom's log" }, { title: "mom does not answer", command: "journalctl -u mom" });
}

const NO_RIGHT = { title: "You may not see mom", command: "" };

// mom knows groups only; Cockpit has administrative access, too.
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
