"""Points of a guest's past days, read by a process of its own: unpacking a recording would keep a mom from its guests for seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mom_core import MomError, printable
from mom_kvm import PointsAsked, RecordedPoint
from mom_plugins_record.recording.cycles import CycleRead
from mom_plugins_record.recording.reader import Recording

SECONDS: Final = 12.0
"""For which it may read: less than a client waits for an answer."""

_NICE: Final = 10


def points_of(folder: Path, asked: PointsAsked) -> Sequence[RecordedPoint]:
    """Return the points, in the order of time. Raises `MomError`."""
    given = json.dumps({"folder": str(folder), "asked": asdict(asked)})
    try:
        done = subprocess.run(  # this very module, no shell
            [sys.executable, "-I", "-m", __name__], input=given.encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MomError(f"the recording was not read within {SECONDS:g} s", hint="ask for less time") from None
    except OSError as error:
        raise MomError(f"the recording cannot be read: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"its reader ended with {done.returncode}"]
        raise MomError(f"the recording cannot be read: {printable(lines[-1], 300)}")
    return [RecordedPoint(**load) for load in json.loads(done.stdout)]


def point_of(record: CycleRead, asked: PointsAsked) -> RecordedPoint:
    """Return the fields asked for of a recorded cycle."""
    guest = record.report.snapshot.guests.get(asked.guest)
    values = None if guest is None else {name: value for name in asked.guest_fields if (value := guest.fields.get(name)) is not None}
    return RecordedPoint(record.report.time, guest=values)


def main() -> None:
    """Read what is asked on the standard input, and tell it on the standard output."""
    os.nice(_NICE)
    given = json.load(sys.stdin)
    asked = PointsAsked(**given["asked"])
    try:
        records = Recording(Path(given["folder"])).sparse(asked.since, asked.until, asked.most)
        found = sorted((point_of(record, asked) for record in records), key=lambda one: one.time)
    except MomError as error:
        sys.exit(str(error))
    json.dump([asdict(item) for item in found], sys.stdout)


if __name__ == "__main__":
    main()
