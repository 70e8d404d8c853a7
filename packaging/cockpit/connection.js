// How the page reaches mom in Cockpit: through a channel of Cockpit's to the control socket on the host that is shown. Behind the channel is a process
// of the user who has logged in, or of root where that user has turned on administrative access: mom is told by the kernel which.

const { cockpit } = globalThis;
const SOCKET = cockpit.manifests.mom?.config?.socket ?? "/run/mom/mom.sock";
const MORE_RIGHTS = "“Limited access” at the top of Cockpit turns on administrative access";

// What Cockpit says where it gets no answer, in the form of mom's own refusals.
const UNANSWERED = {
  "access-denied": [403, "you may not use mom's control socket", `${MORE_RIGHTS}; or become a member of the group that \`read_group\` or \`change_group\` of mom's plugin http names, and log in again`],
  "not-found": [502, `no mom listens at ${SOCKET} on this host`, "start it: systemctl start mom; its configuration must have the plugin http"],
};

// Newer Cockpits say "not-found" of whatever cannot be connected to.
function refusal(problem, message) {
  const what = /permission denied/i.test(message) ? "access-denied" : problem;
  const [status, detail, hint] = UNANSWERED[what] ?? [502, `Cockpit cannot reach mom: ${problem}`, "look at mom's log: journalctl -u mom"];
  return new Response(JSON.stringify({ detail, hint }), { status, headers: { "content-type": "application/problem+json" } });
}

// mom knows of groups only; of what else helps here, Cockpit does.
async function withWayToRights(answer) {
  const problem = await answer.json();
  return new Response(JSON.stringify({ ...problem, hint: `${MORE_RIGHTS}; otherwise: ${problem.hint}` }), answer);
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
