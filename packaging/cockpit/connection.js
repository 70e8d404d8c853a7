// How the page reaches mom in Cockpit: through a channel of Cockpit's to the control socket on the host that is shown. Behind the channel is a process
// of the user who has logged in, or of root where that user has turned on administrative access: mom is told by the kernel which.

const { cockpit } = globalThis;
const SOCKET = cockpit.manifests.mom?.config?.socket ?? "/run/mom/mom.sock";
const MORE_RIGHTS = "“Limited access” at the top of Cockpit turns on administrative access";
const GROUP = "become a member of the group that `read_group` or `change_group` of mom's plugin http names, and log in again";

const ADMIN = cockpit.permission({ admin: true });

// Runs a command on the host that is shown, with administrative access.
export const run = (command) => cockpit.spawn(command.split(" "), { superuser: "require", err: "message" });

function mayRun() {
  return new Promise((resolve) => {
    const tell = () => { if (ADMIN.allowed !== null) resolve(ADMIN.allowed); };
    ADMIN.addEventListener("changed", tell);
    tell();
  });
}

// Where there is no socket, systemd knows whether mom runs.
async function withoutSocket() {
  const detail = `no mom listens at ${SOCKET} on this host`;
  const told = await cockpit.spawn(["systemctl", "show", "--property=LoadState,ActiveState", "mom.service"]).catch(() => "");
  if (/^LoadState=not-found$/m.test(told)) {
    return { detail, hint: "install its package, or start it by hand", instead: { title: "mom is not installed as a service", command: "mom run" } };
  }
  if (/^ActiveState=(active|reloading)$/m.test(told)) {
    const command = "plugins:\n  http: {}\n\n# in /etc/mom/mom.yaml; and then:\nsystemctl reload mom";
    return { detail, hint: "enable the plugin http in its configuration; where it has another socket, say so in /etc/cockpit/mom.override.json", instead: { title: "mom runs, without the plugin http", command } };
  }
  const button = await mayRun() ? "Start mom" : undefined;
  const why = /^ActiveState=failed$/m.test(told) ? ". It has failed: journalctl -u mom says why" : "";
  return { detail, hint: `start it: systemctl start mom${why}`, instead: { title: "mom does not run", command: "systemctl start mom", button } };
}

// What Cockpit says where it gets no answer, in the form of mom's own refusals. Newer Cockpits say "not-found" of whatever cannot be connected to.
async function refusal(problem, message) {
  const refused = problem === "access-denied" || /permission denied/i.test(message);
  const said = refused ? { detail: "you may not use mom's control socket", hint: `${MORE_RIGHTS}; or ${GROUP}`, instead: NO_RIGHT }
    : problem === "not-found" ? await withoutSocket()
      : { detail: `Cockpit cannot reach mom: ${problem}`, hint: "look at mom's log", instead: { title: "mom does not answer", command: "journalctl -u mom" } };
  return new Response(JSON.stringify(said), { status: refused ? 403 : 502, headers: { "content-type": "application/problem+json" } });
}

const NO_RIGHT = { title: "You may not see mom", command: "" };

// mom knows of groups only; of what else helps here, Cockpit does.
async function withWayToRights(answer) {
  const problem = await answer.json();
  return new Response(JSON.stringify({ ...problem, hint: `${MORE_RIGHTS}; otherwise: ${problem.hint}`, instead: NO_RIGHT }), answer);
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
      if (status === 403) withWayToRights(answer).then(resolve, reject); else resolve(answer);
    });
    channel.addEventListener("message", (_, part) => content.enqueue(new Uint8Array(part)));
    channel.addEventListener("close", (_, { problem, message }) => {
      if (!answered) resolve(refusal(problem ?? "no answer", message));
      end(problem ? new TypeError(problem) : null);
    });
    if (body) channel.send(new TextEncoder().encode(body));
    channel.control({ command: "done" });
  });
}
