"""The policies for vdsm as vdsm's own are written: without spaces, with its parameters, with disks, and with one guest that lacks data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mom_core.testing import snapshot
from mom_plugins_policy import Policy

FOLDER = Path(__file__).parents[2] / "examples/policies/vdsm"
TEXTS = {path.name.removesuffix(".policy"): path.read_text() for path in FOLDER.glob("*.policy")}

KEYS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")
DISK: dict[str, Any] = {
    "name": "vda",
    "path": "/d",
    "maximum": dict(zip(KEYS, (1 << 33, 0, 0, 500, 0, 0), strict=True)),
    "guaranteed": None,
    "current": dict.fromkeys(KEYS, 7),
}
HOST: dict[str, Any] = {
    "mem_available": 10 << 20,
    "mem_free": 1 << 20,
    "cpu_count": 1,
    "ksm_run": 0,
    "ksm_pages_shared": 5,
    "ksm_shareable": 1 << 20,
    "ksm_merge_across_nodes": 1,
    "ksm_pages_to_scan": 100,
}
GUEST: dict[str, Any] = {
    "balloon_cur": 2 << 20,
    "balloon_max": 4 << 20,
    "balloon_min": 0,
    "mem_unused": 1 << 20,
    "vcpu_count": 1,
    "vcpu_user_limit": 50,
    "vcpu_quota": -1,
    "vcpu_period": 100000,
    "io_tune": [DISK],
}


def decided(texts: dict[str, str], *, errors: int = 0, **guests: dict[str, Any]) -> dict[tuple[str, str], Any]:
    taken = snapshot(host=HOST, guests=guests or {"vm": GUEST}, history=[{"host": HOST, "guests": guests or {"vm": GUEST}}])
    result = Policy.compile(texts).evaluate(taken)
    assert len(result.errors) == errors, result.errors
    return {(decision.entity.name, decision.control): decision.value for decision in result.decisions}


def squeezed(text: str) -> str:
    """Without comments, and without white space that the language does not need: `(if(< a b){x}{y})`."""
    text = re.sub(r"#[^\n]*", "", text)
    return re.sub(r"\s+", " ", re.sub(r"\s*([(){}\[\]])\s*", r"\1", text)).strip()


def test_there_are_the_files_that_vdsm_has() -> None:
    assert sorted(TEXTS) == ["00-defines", "01-parameters", "02-balloon", "03-ksm", "04-cputune", "05-iotune"]
    assert not TEXTS["01-parameters"].endswith("\n")
    assert re.fullmatch(r"#[^\n]*", TEXTS["01-parameters"])


def test_disks_get_what_was_agreed_or_nothing() -> None:
    (disk,) = decided(TEXTS)["vm", "io_tune"]
    assert disk == {"name": "vda", "path": "/d", **DISK["maximum"]}
    (disk,) = decided({**TEXTS, "01-parameters": "(set ioTuneEnabled False)"})["vm", "io_tune"]
    assert disk == {"name": "vda", "path": "/d", **dict.fromkeys(KEYS, 0)}


def test_without_a_space_too_many_they_decide_the_same() -> None:
    tight = {name: squeezed(text) for name, text in TEXTS.items()}
    assert "}{" in tight["02-balloon"]
    assert "(if(" in tight["02-balloon"]
    assert decided(tight) == decided(TEXTS)


def test_parameters_come_as_vdsm_writes_them() -> None:
    parameters = '(set balloonEnabled True)\n(set ksmEnabled False)\n(set ksmMergeAcrossNodes 0.25)\n(set cpuTuneEnabled "it\'s")'
    found = decided({**TEXTS, "01-parameters": parameters})
    assert found["host", "ksm_run"] == 2
    assert found["vm", "balloon_target"] == pytest.approx(1.9 * (1 << 20))
    assert ("vm", "vcpu_quota") not in found


def test_a_guest_whose_data_the_policies_do_not_guard_against_costs_nobody_else_anything() -> None:
    unguarded = '(with Guests guest (if (< guest.balloon_cur guest.balloon_min) (guest.Control "balloon_target" guest.balloon_min) 0))'
    bare = dict.fromkeys(GUEST)
    texts = {**TEXTS, "06-unguarded": unguarded}
    found = decided(texts, errors=1, bare=bare, vm=GUEST)
    assert {control for name, control in found if name == "vm"} == {"balloon_target", "vcpu_quota", "io_tune"}
    assert found["host", "ksm_run"] == 1
