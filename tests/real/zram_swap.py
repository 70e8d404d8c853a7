"""A compressed swap of a test's own on this host, which is taken away again, whatever becomes of the test."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CONTROL = Path("/sys/class/zram-control")
_PRIORITY = "200"


class NoZram(Exception):
    """This host gives no zram device to a test."""


@contextmanager
def zram_swap(mib: int) -> Iterator[str]:
    """Swap of so many MiB on a new zram device, until the end of the block; the name of its device. Raises `NoZram`."""
    try:
        number = int((_CONTROL / "hot_add").read_text())
    except (OSError, ValueError) as error:
        raise NoZram(f"no zram device can be added: {error}") from error
    device, folder = f"/dev/zram{number}", Path(f"/sys/block/zram{number}")
    try:
        (folder / "disksize").write_text(str(mib << 20))
        for command in (["mkswap", device], ["swapon", "-p", _PRIORITY, device]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode:
                raise NoZram(f"{' '.join(command)}: {done.stderr.strip()}")
        yield device
    finally:
        subprocess.run(["swapoff", device], capture_output=True, timeout=300, check=False)
        for _ in range(50):  # another process may look at the device for a moment
            with suppress(OSError):
                (folder / "reset").write_text("1")
                (_CONTROL / "hot_remove").write_text(str(number))
                break
            time.sleep(0.1)
