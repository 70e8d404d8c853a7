"""`mom advise` from learned days of this host and of others, and its errors."""

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from mom_core import StateFile
from mom_plugins_record.advise.command import advise
from mom_plugins_record.forecast.curve import SLOTS, Calendar, GuestDays
from mom_plugins_record.forecast.files import content_of, days_from
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.past import PARTS

GIB = 1 << 20
FIRST = date(2024, 9, 2).toordinal() - date(1970, 1, 1).toordinal()


def kept(file: Path, host: str, used: float, days: int = 28, count: int = 6) -> Path:
    """Write learned days of guests of 4 GiB on a host of 24 GiB. Each day, guests use this much."""
    learned = HostDays(Calendar())
    learned.host_name, learned.host_kib, learned.promisable_kib = host, 24 * GIB, 22 * GIB
    for number in range(count):
        guest = learned.known[f"u{number}"] = KnownGuest(f"u{number}", f"g{number}", GuestDays(learned.calendar))
        for slot in range(0, SLOTS * days, SLOTS // PARTS):
            guest.past.take_in(FIRST * SLOTS + slot, used * 4 * GIB, 4 * GIB)
    StateFile(file, "days", days_from).write(content_of(learned))
    return file


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(advise, list(map(str, arguments)), catch_exceptions=True)


def test_of_the_host_whose_mom_has_learned_its_guests_days(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    config.write_text(yaml.safe_dump({"state_directory": str(tmp_path / "state"), "plugins": {"sim": {}, "forecast": {}}}))
    missing = asked("-c", config)
    assert missing.exit_code != 0
    assert "there is no daily memory use of guests" in str(missing.exception)
    kept(tmp_path / "state/forecast/days.json", "kvm-07", 0.5)
    done = asked("-c", config, "--risk", "2%", "--memory", "4GiB")
    assert done.exit_code == 0, done.output
    assert "kvm-07: " in done.output
    assert "at most 2 % (95 % confidence" in done.output.replace("\n    ", " ")
    assert "24.00 GiB are sold to 6 guests today" in done.output
    assert re.search(r"^[1-9]\d* more guests of 4.00 GiB can be added$", done.output, re.MULTILINE)
    for words in ("ram_allocation_ratio", "memoryOvercommitPercentage", "mem.overprovisioning.factor", "memory of all guests together"):
        assert words in done.output


def test_of_several_hosts_as_json(tmp_path: Path) -> None:
    files = [kept(tmp_path / name / "days.json", name, used) for name, used in (("calm", 0.25), ("full", 0.9))]
    short = kept(tmp_path / "new/days.json", "new", 0.5, days=5)
    done = asked(*(word for file in (*files, short) for word in ("--days", file)), "--memory", "4GiB", "--json")
    assert done.exit_code == 0, done.output
    hosts = {one["host"]: one for one in json.loads(done.output)["hosts"]}
    assert hosts["calm"]["ratio"] > 2
    assert 0.9 < hosts["full"]["ratio"] < 1.2
    assert hosts["calm"]["more_guests"] == (hosts["calm"]["result"]["sold_kib"] - 24 * GIB) // (4 * GIB) > 0
    assert hosts["full"]["ratio_today"] == round(24 / 22, 2)
    assert hosts["new"]["result"] is None
    assert "5 days are known" in hosts["new"]["why"]
    alone = asked("--days", short)
    assert alone.exit_code == 1
    assert "the memory that can be sold is unknown" in alone.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--risk", "0"], "is not a risk between 0 and 100 %"),
        (["--risk", "150%"], "is not a risk between 0 and 100 %"),
        (["--risk", "little"], "is not a risk between 0 and 100 %"),
        (["--memory", "4"], "--memory: "),
        (["--days", "nowhere"], "'--days'"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: Sequence[str], message: str) -> None:
    refused = asked(*arguments)
    assert refused.exit_code == 2
    assert message in refused.output
