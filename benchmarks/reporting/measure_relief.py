"""Measure what a host gets back when it tells mom-guestd that it is short of memory, on a real guest.

    python benchmarks/reporting/measure_relief.py

A guest of 1,920 MiB with free page reporting works steadily on 600 MiB. These lie in pieces of 1 MiB between 600 that it has freed. Its
owner lets mom-guestd report pieces of 16 KiB. Measured: memory that the guest's QEMU holds before, and 6, 12, 20 and 30 s after the host
is short.

It needs what tests/real needs, 3 GiB of memory, and minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import time
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from agent_image import build_with_agents  # only found from here on
from guest_lab import guest_lab  # as above
from measure_reporting import resident_mib  # as above
from real_guests import Lab, RealGuest  # as above
from tables import table  # as above

from mom_devkit import wait_until

SIZE_MIB, BASE_MIB, FREED_MIB = 1920, 600, 600
TOUCHES = 20000
LOOKS = (6.0, 12.0, 20.0, 30.0)
CHANNEL = "org.mom.guestd.0"


def start(lab: Lab, channel: Path) -> RealGuest:
    """Start the guest, and wait until its memory lies in pieces."""
    never = int(time.time()) + 86400
    guest = lab.start(
        "relief",
        mib=SIZE_MIB,
        balloon_options="freePageReporting='on'",
        devices=f"<channel type='unix'><source mode='bind' path='{channel}'/><target type='virtio' name='{CHANNEL}'/></channel>",
        arguments=f"momtest.order=2 momtest.demand={never},{BASE_MIB},{FREED_MIB},60,50,0,0,0,0,{TOUCHES},0,0,0,0,0,1",
    )
    wait_until(lambda: re.search(r"DEMAND .* met=[1-9]", guest.printed), "its memory lies in pieces, and it works", 300)
    wait_until(lambda: channel.exists() and ask(channel, "stats"), "mom-guestd answers", 300)
    return guest


def ask(channel: Path, question: str) -> bytes:
    """Return the answer of mom-guestd."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(channel))
        client.sendall(f"\n{question} x1\n".encode())
        answer = b""
        while b"end:x1\n" not in answer:
            answer += client.recv(65536)
        return answer


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with guest_lab(build_with_agents()) as lab:
        channel = lab.libvirtd.folder / CHANNEL
        guest = start(lab, channel)
        held = [resident_mib(guest)]
        began = time.monotonic()
        ask(channel, "short 60")
        for seconds in LOOKS:
            time.sleep(max(0.0, began + seconds - time.monotonic()))
            held.append(resident_mib(guest))
    print(table(["MiB held on the host", *(f"{seconds:.0f} s after" for seconds in LOOKS)], [[f"{mib:.0f}" for mib in held]]))


if __name__ == "__main__":
    main()
