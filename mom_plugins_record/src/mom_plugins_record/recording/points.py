"""Values of a guest's past days, read in a separate process because unpacking a recording takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mom_core import MomError, Report, printable
from mom_kvm import RecordedPoint
from mom_plugins_record.recording.reader import Recording

SECONDS: Final = 12.0
"""Time limit of a request, in seconds; clients wait longer."""

_NICE: Final = 10


def points_of(folder: Path, since: float, until: float, most: int, guest: str, fields: Sequence[str]) -> Sequence[RecordedPoint]:
    """Return about `most` points of a guest (its id), the oldest first. Raise `MomError` if reading them fails or takes too long.

    :param since: seconds since the epoch
    """
    request = json.dumps([str(folder), since, until, most, guest, list(fields)])
    try:
        process = subprocess.run(  # this module, no shell
            [sys.executable, "-I", "-m", __name__], input=request.encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MomError(f"the recording was not read within {SECONDS:g} s", hint="request a shorter period") from None
    except OSError as error:
        raise MomError(f"the recording cannot be read: {error.strerror}") from error
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or [f"its reader ended with exit code {process.returncode}"]
        raise MomError(f"the recording cannot be read: {printable(lines[-1], 300)}")
    return [RecordedPoint(**load) for load in json.loads(process.stdout)]


def _point(report: Report, identity: str, fields: Sequence[str]) -> RecordedPoint:
    guest = report.snapshot.guests.get(identity)
    values = None if guest is None else {name: value for name in fields if (value := guest.fields.get(name)) is not None}
    return RecordedPoint(report.time, guest=values)


def main() -> None:
    """Read a request from standard input, and write points to standard output."""
    os.nice(_NICE)
    folder, *period, guest, fields = json.load(sys.stdin)
    try:
        cycles = Recording(Path(folder)).sparse(*period)
        points = sorted((_point(cycle.report, guest, fields) for cycle in cycles), key=lambda point: point.time)
    except MomError as error:
        sys.exit(str(error))
    json.dump([asdict(item) for item in points], sys.stdout)


if __name__ == "__main__":
    main()
