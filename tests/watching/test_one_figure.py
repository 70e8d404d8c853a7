"""All surfaces show the same guarantee of a guest."""

import json
from functools import partial

from prometheus_client.parser import text_string_to_metric_families
from verbs_in_process import run_verb
from watched_mom import Daemon, Start, client

from mom_devkit import wait_until

Figures = dict[str, float | None]

PROMISES = """  sla: {}
guests:
  "web-*": {class: WEB}
  "db-*": {class: gold, guarantee: 64MiB}
  "idle-*": {guarantee: 10%}
"""
"""Promises: by a class, by a class above the operator's, and by the operator."""


def surfaces(daemon: Daemon) -> tuple[dict[str, Figures], dict[str, float]]:
    """Return each surface's guarantees in KiB, keyed by guest, and the metrics without labels."""
    with client(daemon) as asks:
        api: Figures = {one["name"]: one["columns"]["guarantee"] for one in asks.get("/v1/guests").json()["items"]}
        listed: Figures = {one["name"]: one["columns"]["guarantee"] for one in asks.get("/v1/guests?fields=rss").json()["items"]}
        explained = {name: asks.get(f"/v1/guests/{name}/explanation").json()["memory"]["guarantee_kib"] for name in api}
        samples = [
            one
            for family in text_string_to_metric_families(asks.get("/metrics").text)
            for one in family.samples
            if family.name[:3] == "mom"
        ]
    listed_by_verb = json.loads(run_verb("guests", "--json", "-c", str(daemon.config)).stdout)
    written = json.loads((daemon.folder / "run/status.json").read_text())["guests"]
    rows = [dict(zip(written["columns"], row, strict=True)) for row in written["rows"]]
    found = {
        "API": api,
        "API, some fields": listed,
        "explain": {name: explained.get(name) for name in api},
        "status file": {row["name"]: row["column.guarantee"] for row in rows},
        "mom guests": {row["name"]: row["column.guarantee"] for row in listed_by_verb},
        "metrics": dict.fromkeys(api)
        | {one.labels["domain"]: one.value / 1024 for one in samples if one.name == "mom_guest_guaranteed_bytes"},
    }
    return found, {one.name: one.value for one in samples if not one.labels}


def knows_what_holds(daemon: Daemon) -> bool:
    """Return whether guarantees are known: they follow from the last cycle."""
    with client(daemon) as asks:
        return bool(asks.get("/v1/status").json()["cycle"]["number"] > 2)


def test_every_surface_says_the_same_of_what_a_guest_is_guaranteed(daemon: Start) -> None:
    moms = {
        oversold: daemon(guests=8, more=PROMISES.replace("WEB", sla_class), interval="1s", host_memory="8GiB")
        for sla_class, oversold in (("compute", False), ("platinum", True))
    }
    for oversold, mom in moms.items():
        wait_until(partial(knows_what_holds, mom))
        found, sums = surfaces(mom)
        assert len(found["API"]) == 8
        assert any(found["API"].values())
        for surface, figures in found.items():
            assert figures == found["API"], surface
        together = sum(kib or 0 for kib in found["API"].values()) * 1024
        assert sums["mom_guests_guaranteed_bytes"] == together
        promised = sums["mom_guests_promised_bytes"]
        assert (together < promised) if oversold else (together == promised)
