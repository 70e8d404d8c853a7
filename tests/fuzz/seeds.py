"""Write the first inputs for fuzzing: valid inputs of each kind from the repository. `seeds.py FOLDER`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

GOOD: Final = Path(__file__).with_name("good")
"""Folders with inputs for targets without an example in the repository."""


def requests() -> list[bytes]:
    """Return a request for each operation of the API, and requests with bodies."""
    paths = ["", "v1/status", "v1/report?fields=balloon_cur", "v1/guests?fields=balloon_cur", "v1/guests/GUEST", "v1/fields"]
    paths += ["v1/guests/GUEST/explanation", "v1/policies", "v1/policy-history?limit=3"]
    paths += ["v1/reservations", "v1/host/history", "v1/guest-histories?field=balloon_cur", "v1/openapi.json", "metrics"]
    paths.append("v1/events")
    found = [f"GET /{path}\n\n".encode() for path in paths]
    changing = b"if-match: *\ncontent-type: application/json\n\n"
    found.append(b'PATCH /v1/policies\nif-match: *\ncontent-type: application/json\n\n{"changes": {"60_x": "(defvar x 1)"}}')
    found.append(b"POST /v1/policies\n" + changing + b'{"changes": {"60_x": "(+ 1 2)", "70_y": null}, "replace_all": false}')
    found.append(b"POST /v1/reservations\n" + changing + b'{"memory_kib": 4096, "seconds": 60, "name": "web-*"}')
    return found


def fleet_records() -> list[bytes]:
    """Return a record for each bucket of the fleet, after the bucket's name."""
    destination = "qemu+tls://h2/system"
    guest = {"id": "a", "name": "a", "size": 4096, "maximum": 8192, "need": 1024, "guarantee": 512, "stays": ""}
    move = {"guest": "a", "name": "a", "to": "h2", "destination": destination, "takes": 8192, "number": 1, "state": "failed", "error": "no"}
    records: Mapping[str, Mapping[str, object]] = {
        "states": {"host": "h1", "mom": "1", "mode": "enforce", "total": 1 << 20, "available": 4096, "guests": [guest], "others": 3,
                   "others_promised": 9, "group": "g", "group_revision": 1, "refused": "", "memory_state": "low", "problems": 2,
                   "unhealthy": 1},
        "roster": {"group": "g", "address": destination, "key": "U", "cordoned": False, "draining": True, "by": "me"},
        "orders": {"epoch": 1, "moves": [{**move, "order": 3}, {**move, "guest": "b", "state": "done"}]},
        "groups": {"policies": {"60_fleet_a": "(defvar a 1)", "classes.yaml": "classes: {}"}, "by": "me"},
    }  # fmt: skip
    records = {**records, "progress": {"mode": "enforce", "moves": [{"guest": "a", "order": 0, "state": "done"}]}}
    signed = json.dumps({"by": "UABCDEFG" * 7, "revision": 1, "signature": "AAAA"}) + "\n" + json.dumps(records["groups"])
    return [f"signed\n{signed}".encode(), *(f"{bucket}\n{json.dumps(record)}".encode() for bucket, record in records.items())]


def state_files() -> list[bytes]:
    """Return valid contents of each state file, after its short name."""
    contents = run_path(str(ROOT / "tests/state/state_contents.py"))["CONTENTS"]
    alone = {
        "guests": {"boot": "01234567-89ab-cdef-0123-456789abcdef", "guests": {"a": ["0123456789ab", 12.5]}},
        "group": {"group": "g1", "signed": '{"by": "U", "revision": 3, "signature": ""}\n{"policies": {"60_fleet_a": "(defvar a 1)"}}'},
    }
    return [f"{Path(path).stem}\n{json.dumps(content)}".encode() for path, content in (*contents.items(), *alone.items())]


def write(folder: Path) -> None:
    """Write a folder with first inputs for each target."""
    found = {texts.name: [path.read_bytes() for path in sorted(texts.iterdir())] for texts in GOOD.iterdir()}
    found["policy"] = [
        path.read_bytes() for pattern in ("examples/**/*.policy", "mom_plugins_*/src/**/*.policy") for path in ROOT.glob(pattern)
    ]
    found["configuration"] = [path.read_bytes() for path in ROOT.glob("examples/config/*.yaml")]
    found["old_configuration"] = [(ROOT / "tests/momd/vdsm_mom.conf").read_bytes()]
    found["fleet_record"] = fleet_records()
    found["recording"] = [recorded(folder)]
    found["request"] = requests()
    found["state_file"] = state_files()
    for name, inputs in found.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(inputs):
            (folder / name / f"seed-{number}").write_bytes(content)


def recorded(folder: Path) -> bytes:
    """Return a recording of some cycles of a simulated host."""
    from mom_core import Engine, load_config

    where = folder / "recorded"
    plugins = {"sim": {}, "balloon": {}, "policy": {}, "record": {"path": str(where)}}
    directories = {name: str(folder / name) for name in ("state_directory", "run_directory")}
    with Engine(load_config({"mode": "enforce", "plugins": plugins, **directories})) as engine:
        for _ in range(3):
            engine.cycle()
    return next(where.glob("*.momrec")).read_bytes()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
