"""How long vdsm waits for mom: RPC calls through the unix socket, on a host with 1,000 guests, quietly and while others misbehave.

    python benchmarks/rpc/bench_rpc.py [--guests 1000] [--runs 50]

vdsm gives up after 2 s, and takes mom for dead then. What is measured is the time until
the whole answer is there, from a new connection on, as vdsm makes one for each call; reading the XML is vdsm's own work.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xmlrpc.client import dumps

from mom_core import Engine, Report, Value, load_config
from mom_core.testing import snapshot
from mom_plugins_vdsm.rpc_plugin import XmlRpcPlugin

FIELDS = 25  # as many as vdsm, balloon and qos have for a guest
SILENT = 40  # clients that say nothing, and as many that stop in the middle of a request

POLICIES = Path(__file__).parents[2] / "examples/policies/vdsm"


def report(guests: int) -> Report:
    """A cycle on a host with many guests."""
    disk = {"name": "vda", "path": "/d", "guaranteed": None}
    limits = dict.fromkeys(
        ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec"), 1 << 33
    )
    guest: dict[str, Value] = {
        **{f"field_{n}": 4_194_304 + n for n in range(FIELDS)},
        "io_tune": [{**disk, "current": limits, "maximum": limits}],
    }
    host = {"ksm_run": 1, **{f"field_{n}": n for n in range(80)}}
    taken = snapshot(host=host, guests={f"guest-{n:04}": guest for n in range(guests)})
    return Report(1, 0.0, "enforce", taken, (), (), (), (), (), 0.01)


def measured(runs: int, what: Callable[[], object], before: Callable[[], object] = lambda: None) -> str:
    """Median and longest, in ms."""
    taken = []
    for _ in range(runs):
        before()
        began = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(taken):>10.1f} {max(taken):>10.1f}"


def main() -> None:
    """Print one line for each call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=50, help="of each call")
    options = parser.parse_args()
    taken = partial(report, options.guests)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mom.sock"
        config = load_config(
            {
                "interval": "1h",
                "state_directory": f"{folder}/state",
                "run_directory": f"{folder}/run",
                "mode": "enforce",
                "plugins": {
                    "sim": {},
                    "host": {},
                    "ksm": {},
                    "balloon": {},
                    "qos": {},
                    "policy": {"directory": str(POLICIES), "defaults": False, "keep_changes": True},
                    "xmlrpc": {"listen": str(path), "patience": "60s", "clients": 200},
                },
            }
        )
        with Engine(config) as engine:
            (plugin,) = (each.instance for each in engine.plugins.plugins if each.name == "xmlrpc")
            assert isinstance(plugin, XmlRpcPlugin)
            plugin.mom_report(taken())
            show(plugin, path, "", taken, options.runs)
            held = [socket.socket(socket.AF_UNIX) for _ in range(2 * SILENT)]
            for number, client in enumerate(held):
                client.connect(str(path))
                client.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Le" if number % 2 else b"")
            show(plugin, path, f" beside {2 * SILENT} silent clients", taken, options.runs)
            for client in held:
                client.close()


def call(path: Path, method: str, *params: str) -> bytes:
    """The whole answer, by HTTP."""
    body = dumps(params, method).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(f"POST /RPC2 HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        parts = []
        while part := sock.recv(1 << 20):
            parts.append(part)
    answer = b"".join(parts)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"faultCode" not in answer
    return answer


def show(plugin: XmlRpcPlugin, path: Path, beside: str, taken: Callable[[], Report], runs: int) -> None:
    """All calls that vdsm makes."""
    turn = 0

    def set_parameters() -> object:
        nonlocal turn
        turn += 1
        return call(path, "setNamedPolicy", "01-parameters", f"(set balloonEnabled {'True' if turn % 2 else 'False'})")

    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "ping": (lambda: call(path, "ping"), lambda: None),
        "getStatistics, first after a cycle": (lambda: call(path, "getStatistics"), lambda: plugin.mom_report(taken())),
        "getStatistics, asked again": (lambda: call(path, "getStatistics"), lambda: None),
        "setNamedPolicy, vdsm's parameters": (set_parameters, lambda: None),
    }
    print(f"{'call' + beside:<40} {'median ms':>10} {'longest':>10}")
    for name, (what, before) in calls.items():
        print(f"{name:<40} {measured(runs, what, before)}")


if __name__ == "__main__":
    main()
