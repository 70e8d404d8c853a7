"""`mom explain` on a real guest: what it says is what libvirt and the guest say."""

import json
from pathlib import Path
from typing import Any

import pytest
from mom_run import MomRun
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

pytestmark = pytest.mark.real

MIB = 1024

POLICY = """# Everybody gets by with less.
(with Guests guest
    (if (> guest.balloon_cur {target})
        (guest.Control "balloon_target" {target})
        0))
"""


def explained(mom: MomRun, guest: RealGuest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mom.says("explain", guest.name, "--json"))
    return found


def test_a_real_guests_size_is_explained_through_its_changes(lab: Lab, mom: MomRun, tmp_path: Path) -> None:
    guest = lab.start("explained", mib=320, workload=(5, 5, 0, 0)).wait_until_it_works()
    plugins = {"libvirt": lab.libvirtd.settings(stats_period="1s"), "balloon": {}, "record": {}, "http": {}, "policy": {"defaults": False}}
    mom.configure(plugins, {"momtest-*": {"guarantee": "100MiB"}}, policies={})
    mom.start()
    # Nobody has touched it: it has what it was started with, and says itself what it needs.
    found = wait_until(lambda: _with_statistics(mom, guest), "its statistics are known", 60)
    assert found["since"]["by"] == "maximum"
    assert found["memory"]["size_kib"] == found["memory"]["maximum_kib"] == guest.domain.info()[2]
    assert found["memory"]["guarantee_kib"] == 100 * MIB
    assert 0 < found["memory"]["used_kib"] < found["memory"]["size_kib"]
    # A policy takes some, and is quoted with its line.
    text = tmp_path / "less.policy"
    text.write_text(POLICY.format(target=240 * MIB))
    assert mom.verb("policy", "set", "60_less", str(text)).returncode == 0
    wait_until(lambda: guest.domain.info()[2] == 240 * MIB, "libvirt has it smaller", 60)
    found = wait_until(lambda: _set_by(mom, guest, "mom", 240), "mom has seen it", 60)
    assert found["since"]["source"]["name"] == "60_less"
    assert found["since"]["before_kib"] == found["memory"]["maximum_kib"]
    told = mom.verb("explain", guest.name).stdout
    assert "It has 240 MiB of 320 MiB: 80 MiB are taken from it for the host." in told
    assert "mom set this size, according to 60_less:4:9. It had 320 MiB before." in told, told
    # Somebody else resizes it.
    guest.domain.setMemoryFlags(200 * MIB, 1)
    found = wait_until(lambda: _set_by(mom, guest, "somebody-else", 200), "mom has seen that", 60)
    # And all of that is in the recording.
    past = mom.verb("explain", guest.name, "--at", "1s ago")
    assert past.returncode == 0, past.stderr
    assert "state/recording" in past.stdout
    mom.stop()


def _with_statistics(mom: MomRun, guest: RealGuest) -> dict[str, Any] | None:
    found: dict[str, Any] = json.loads(mom.says("explain", guest.name, "--json") or "{}")
    return found if found and found["memory"]["usable_kib"] and found["memory"]["statistics_age_seconds"] is not None else None


def _set_by(mom: MomRun, guest: RealGuest, who: str, mib: int) -> dict[str, Any] | None:
    found = explained(mom, guest)
    return found if found["since"]["by"] == who and found["memory"]["size_kib"] == mib * MIB else None
