"""Promises in real guests' metadata hold against a policy that takes all memory."""

from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from mom_run import MomRun
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

pytestmark = pytest.mark.real

MOM_GUEST = "urn:mom:guest:1.0"
MIB = 1024

GREEDY = '(with Guests guest (guest.Control "balloon_target" 32768))\n'
"""Policy that sets every guest to 32 MiB."""


def promise(guest: RealGuest, attributes: str) -> None:
    guest.domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT, f"<guest {attributes}/>", "mom", MOM_GUEST, libvirt.VIR_DOMAIN_AFFECT_LIVE
    )


def test_real_guests_keep_what_their_metadata_and_the_yaml_file_promise(lab: Lab, mom: MomRun) -> None:
    guests = {name: lab.start(name, mib=192) for name in ("yaml", "metadata", "class", "mistaken", "nothing")}
    for guest in guests.values():
        guest.wait_until_up()
    promise(guests["metadata"], 'guarantee="160MiB"')
    promise(guests["class"], 'class="half"')
    promise(guests["mistaken"], 'class="hlaf"')
    plugins = {"libvirt": lab.libvirtd.settings(), "balloon": {}, "sla": {"classes": {"half": {"guarantee": "50%"}}}}
    mom.configure(plugins, {"momtest-yaml": {"guarantee": "75%"}}, policies={"50_balloon": GREEDY})
    mom.start()

    def sizes() -> dict[str, Any]:
        return {name.removeprefix("momtest-"): row for name, row in mom.guest_rows().items()}

    def has_shrunk(name: str, kib: int) -> bool:
        size = sizes().get(name, {}).get("balloon_cur")  # a first cycle may not know all guests yet
        return size is not None and bool(size <= kib)

    maximum = 192 * MIB
    known = ("balloon_max", "column.used", "mem_usable", "column.swap", "column.guarantee", "stats_age")
    wait_until(lambda: all(sizes().get("yaml", {}).get(name) is not None for name in known), "all figures of a guest are known", 60)
    wait_until(lambda: has_shrunk("nothing", maximum - 8 * MIB), "a guest without a promise gives what it does not need", 60)
    wait_until(lambda: has_shrunk("yaml", maximum - 8 * MIB), "a guest gives what is beyond its promise", 60)
    for _ in range(5):
        found = sizes()
        assert found["yaml"]["balloon_cur"] >= 0.75 * maximum
        assert found["metadata"]["balloon_cur"] >= 160 * MIB
        assert found["class"]["balloon_cur"] >= 0.5 * maximum
        assert found["mistaken"]["balloon_cur"] == maximum
        mom.next_cycle()
    assert (found["class"]["sla_class"], found["mistaken"]["sla_class"]) == ("half", "platinum")
    assert "momtest-mistaken: there is no class hlaf" in mom.log

    promise(guests["metadata"], 'guarantee="100%"')
    wait_until(lambda: sizes()["metadata"]["balloon_cur"] == maximum, "it gets back what it is promised now", 60)
    promise(guests["metadata"], 'guarantee="lots"')
    wait_until(
        lambda: "momtest-metadata: the guarantee in the guest's metadata is invalid" in mom.log, "the invalid guarantee is reported", 60
    )
    assert sizes()["metadata"]["balloon_cur"] == maximum
    mom.stop()
