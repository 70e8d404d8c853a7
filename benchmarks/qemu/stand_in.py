"""Stand in for many guests: one process that serves a monitor for each, and a sleeping process for each that listens there.

    python stand_in.py FOLDER GUESTS HANGING

Prints `ready`, and ends with its standard input.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n'
BALLOON = "/machine/peripheral/balloon0"
MEMORY = 1 << 30
_MAPPED = mmap.mmap(-1, MEMORY, mmap.MAP_PRIVATE, prot=0)  # QEMU maps the guest's memory


def answer(number: int, command: str, arguments: dict[str, object]) -> object:
    """Return QEMU's answer."""
    statistics = {
        "stat-total-memory": MEMORY, "stat-free-memory": MEMORY // 4, "stat-available-memory": MEMORY // 2, "stat-disk-caches": 1 << 26,
        "stat-swap-in": 0, "stat-swap-out": 0, "stat-major-faults": 7, "stat-minor-faults": 7, "stat-htlb-pgalloc": 0,
    }  # fmt: skip
    if command == "qom-get":
        kind = arguments["property"]
        return {"guest-stats": {"stats": statistics, "last-update": int(time.time())}, "guest-stats-polling-interval": 1}.get(str(kind), "")
    if command == "qom-list":
        return [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}] if arguments["path"] == "/machine/peripheral" else []
    return {
        "query-name": {"name": f"guest-{number}"},
        "query-uuid": {"UUID": str(uuid.UUID(int=number + 1))},
        "query-status": {"status": "running", "singlestep": False, "running": True},
        "query-memory-size-summary": {"base-memory": MEMORY, "plugged-memory": 0},
        "query-memory-devices": [],
        "query-cpus-fast": [{"thread-id": 1, "cpu-index": 0}],
        "query-balloon": {"actual": MEMORY},
    }.get(command, {})


def listening(path: str) -> socket.socket:
    """Return a socket on which, for the kernel, a process of its own listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    reading, writing = os.pipe()
    if not os.fork():
        sock.listen(1)
        os.write(writing, b"x")
        while True:
            signal.pause()
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    sock.setblocking(False)
    return sock


def main() -> None:
    """Serve until standard input ends."""
    folder, guests, hanging = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 * guests + 100, max(3 * guests + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    children = os.getpid()
    select = selectors.DefaultSelector()
    for number in range(guests):
        sock = listening(f"{folder}/{number}.qmp")
        if number >= hanging:
            select.register(sock, selectors.EVENT_READ, ("listen", number))
    select.register(sys.stdin, selectors.EVENT_READ, ("end", 0))
    print("ready", flush=True)
    held: dict[int, bytes] = {}
    listeners: dict[int, socket.socket] = {}
    while os.getpid() == children:
        for key, _ in select.select():
            kind, number = key.data
            if kind == "end":
                os.killpg(0, signal.SIGTERM)
                return
            if kind == "listen":
                client, _ = key.fileobj.accept()  # type: ignore[union-attr]  # it is a socket
                select.unregister(key.fileobj)  # one client at a time: the others stand in line
                listeners[number] = key.fileobj  # type: ignore[assignment]  # as above
                with suppress(BrokenPipeError):  # as below
                    client.send(GREETING)
                select.register(client, selectors.EVENT_READ, ("client", number))
                held[client.fileno()] = b""
                continue
            client = key.fileobj
            data = b""
            with suppress(ConnectionResetError):  # as below
                data = client.recv(65536)  # type: ignore[union-attr]  # as above
            if not data:
                select.unregister(client)
                client.close()  # type: ignore[union-attr]  # as above
                select.register(listeners[number], selectors.EVENT_READ, ("listen", number))
                continue
            *lines, held[key.fd] = (held[key.fd] + data).split(b"\n")
            answers = []
            for line in lines:
                asked = json.loads(line)
                answers.append(json.dumps({"return": answer(number, asked["execute"], asked.get("arguments", {})), "id": asked["id"]}))
            with suppress(BrokenPipeError):  # it has left
                client.send("".join(f"{text}\r\n" for text in answers).encode())  # type: ignore[union-attr]  # as above


if __name__ == "__main__":
    main()
