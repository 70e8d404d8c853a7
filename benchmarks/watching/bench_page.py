"""What the web page takes in a browser with 1,000 guests: bytes and requests until it is there, the time to the first paint, its share of a
core, its memory, and how long a scrolled frame takes.

    python benchmarks/watching/bench_page.py [--guests 1000] [--seconds 20]

Where there is a Chromium. The table of guests is open, with a cycle each second; the browser draws without a graphics card, so frames take
longer than on a desk. What the page itself does for a frame, script, style and layout, is told apart: at 60 frames a second there are
16.7 ms for it and for drawing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import threading
import time
from pathlib import Path

from crowd import crowd
from playwright.sync_api import CDPSession, sync_playwright

FRAMES = 120

WORK = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
"""What the page itself does."""

_SCROLLED = """async (frames) => {
  const box = document.querySelector(".guests"), taken = [];
  for (let n = 0; n < frames; n++) {
    const began = performance.now();
    box.scrollTop = n * 240;
    await new Promise((resolve) => requestAnimationFrame(resolve));
    taken.push(performance.now() - began);
  }
  taken.sort((a, b) => a - b);
  return [taken[Math.floor(frames / 2)], taken[Math.floor(frames * 0.95)]];
}"""


def tunnel(path: Path) -> int:
    """A port of this machine that leads to a unix socket, as `ssh -L` makes one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while part := source.recv(1 << 16):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(path))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=carry, args=(source, sink), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


_LOADED = """() => {
  const own = performance.getEntriesByType("resource").filter((one) => !one.name.includes("/v1/"));
  const [document_] = performance.getEntriesByType("navigation");
  const asked = performance.getEntriesByType("resource").length - own.length;
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return [own.length + 1, own.reduce((sum, one) => sum + one.transferSize, document_.transferSize), asked, paint.startTime];
}"""


def figures(session: CDPSession) -> dict[str, float]:
    """What Chromium counts of a page."""
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def main() -> None:
    """One page for some time, then scrolled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("there is no Chromium here")
        return
    with crowd(options.guests) as (_, config):
        measure(chromium, tunnel(config.parent / "r/mom.sock"), options.guests, options.seconds)


def measure(chromium: str, port: int, guests: int, seconds: float) -> None:
    """Open the page, and count."""
    with sync_playwright() as playwright:
        arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"http://localhost:{port}/#/guests")
        page.wait_for_selector(".guests tbody a")
        there = page.evaluate("performance.now()")
        requests, size, asked, paint = page.evaluate(_LOADED)
        print(f"{requests} requests for the page, {size / 1024:.1f} KiB, and {asked} for figures")
        print(f"first paint after {paint:.0f} ms, guests after {there:.0f} ms")
        page.wait_for_timeout(3000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        before = figures(session)
        time.sleep(seconds)
        after = figures(session)
        share = (after["TaskDuration"] - before["TaskDuration"]) / seconds
        print(f"{guests} guests, a cycle each second, {seconds:g} s: {share:.1%} of a core, of which")
        for name in WORK:
            print(f"  {name:<22}{(after[name] - before[name]) / seconds:.1%}")
        print(f"script's memory {after['JSHeapUsedSize'] / (1 << 20):.1f} MiB, {after['Nodes']:.0f} nodes of the document")
        before = figures(session)
        median, most = page.evaluate(_SCROLLED, FRAMES)
        after = figures(session)
        parts = [f"{(after[name] - before[name]) * 1000 / FRAMES:.2f} ms {name}" for name in (*WORK, "TaskDuration")]
        print(f"{FRAMES} scrolled frames: median {median:.0f} ms, 95 of 100 within {most:.0f} ms; each takes {', '.join(parts)}")
        browser.close()


if __name__ == "__main__":
    main()
