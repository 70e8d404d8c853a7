"""SECURITY.md, the threat model and the answers for the OpenSSF badge are correct: privileges are those of the units, and links work."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs/threat-model.md").read_text()


def test_the_page_of_the_threat_model_gives_each_unit_the_privileges_that_it_has() -> None:
    rows = [row.split("|")[1:-1] for row in MODEL.splitlines() if row.startswith("| `mom") and ".service`" in row and row.count("|") == 6]
    told = {name: row for row in rows for name in re.findall(r"`([\w-]+)\.service`", row[0])}
    assert told.keys() == {path.stem for path in (ROOT / "packaging").glob("*.service")}
    for name, (_, user, capabilities, writes, talks) in told.items():
        unit = (ROOT / f"packaging/{name}.service").read_text()

        def values(key: str, unit: str = unit) -> list[str]:
            return [word for line in re.findall(rf"^{key}=(.*)$", unit, re.M) for word in line.split()]

        assert user.strip().strip("`") == (values("User") or ["root"])[0]
        assert set(re.findall(r"CAP_\w+", capabilities)) == set(values("CapabilityBoundingSet"))
        folders = [*(f"/var/lib/{one}" for one in values("StateDirectory")), *(f"/run/{one}" for one in values("RuntimeDirectory"))]
        paths = {*folders, *(path.removeprefix("-") for path in values("ReadWritePaths"))}
        assert set(re.findall(r"`(/[^`]*)`", writes)) == paths
        assert ("control groups" in writes) == (values("ProtectControlGroups") != ["yes"])
        assert ("the network" in talks) == ("AF_INET" in values("RestrictAddressFamilies"))
