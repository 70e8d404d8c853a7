"""Large inputs for one target: small inputs with a piece repeated hundreds of times, side by side or nested.

`large.py TARGET COUNT FOUND_FOLDER INPUT_FOLDER …`; `session.py` runs this. Fuzzers try millions of small inputs, for which quadratic
time is harmless.
"""

import faulthandler
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from random import Random
from typing import Final

from targets import STEPS, TARGETS

LARGE: Final = (400, 1000, 32 << 10)
"""Sizes in bytes. 400 digits exceed a float, and more than 4,300 digits exceed Python's limit for integers."""

MOST_SECONDS: Final = 2.0
"""Limit of CPU time for one input."""

MOST_MIB: Final = 256
"""Limit of memory for one input."""

HUNG_SECONDS: Final = 600
"""Time after which the target is ended with a traceback."""

PAIRS: Final = {ord("("): ord(")"), ord("{"): ord("}"), ord("["): ord("]"), ord("<"): ord(">")}


def large(content: bytes, dice: Random) -> bytes:
    """Return this input with one piece repeated."""
    begin, end = _piece(content, 0, len(content), dice)
    piece = content[begin:end]
    if not piece:
        return content
    times = max(1, dice.choice(LARGE) // len(piece))
    if dice.random() < 0.5:
        return content[:begin] + piece * times + content[end:]
    inner, after = _piece(content, begin + 1, end - 1, dice)
    before, core, behind = content[begin:inner], content[inner:after], content[after:end]
    return content[:begin] + before * times + core + behind * times + content[end:]


def _piece(content: bytes, begin: int, end: int, dice: Random) -> tuple[int, int]:
    """Return the bounds of a piece: between matching brackets, a line, or any part."""
    if end - begin < 2:
        return begin, max(begin, end)
    at = dice.randrange(begin, end)
    opener = next((place for place in range(at, end) if content[place] in PAIRS), None)
    if opener is not None and dice.random() < 0.8:
        depth = 0
        for place in range(opener, end):
            depth += (content[place] == content[opener]) - (content[place] == PAIRS[content[opener]])
            if not depth:
                return opener, place + 1
    first, last = content.rfind(b"\n", begin, at) + 1, content.find(b"\n", at, end) + 1
    if dice.random() < 0.5 and begin <= first < last <= end:
        return first, last
    first, last = sorted((at, dice.randrange(begin, end)))
    return first, last + 1


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def why_not(name: str, content: bytes) -> str:
    """Return why a target fails for this input; empty if it does not."""
    before, began = _peak_mib(), time.process_time()
    STEPS.clear()
    try:
        TARGETS[name](content)
    except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
        return traceback.format_exc(limit=-6)
    seconds, grown = max(STEPS, default=time.process_time() - began), _peak_mib() - before
    return f"it took {seconds:.1f} s and {grown:.0f} MiB more" if seconds > MOST_SECONDS or grown > MOST_MIB else ""


def judged(name: str, good: str, file: str) -> str:
    """Return why a target fails for a file. A valid input first builds cached objects."""
    why_not(name, Path(good).read_bytes())
    return why_not(name, Path(file).read_bytes())


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 1 for failures."""
    name, count, found, *folders = arguments[1:]
    small = [path.read_bytes() for folder in folders for path in sorted(Path(folder).iterdir())]
    TARGETS[name](small[0])  # build cached objects
    dice, wrong = Random(time.time_ns()), 0  # noqa: S311  # nothing secret is made of it
    for _ in range(int(count)):
        content = large(dice.choice(small), dice)
        path = Path(found, f"{name}-large-{sha1(content, usedforsecurity=False).hexdigest()}")
        path.write_bytes(content)  # before the try, which may end the process
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
        why = why_not(name, content)
        faulthandler.cancel_dump_traceback_later()
        if why:
            wrong += 1
            sys.stdout.write(f"{path}: {why}\n")
            sys.stdout.flush()
        else:
            path.unlink()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
