"""The figures of real guests that every table of guests shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mom_run import MomRun
from real_guests import Lab, eventually

pytestmark = pytest.mark.real

_CONFIG = """
interval: 1s
mode: observe
state_directory: {folder}/state
run_directory: {folder}/run
plugins:
  host: {{}}
  libvirt: {{uri: "{uri}", pid_directory: "{pids}", stats_period: 1s}}
  balloon: {{}}
  policy: {{}}
  http: {{}}
guests:
  "*": {{guarantee: 160MiB}}
"""


def test_the_columns_of_real_guests_are_known(lab: Lab, tmp_path: Path) -> None:
    guests = [lab.start(f"watched{number}") for number in range(2)]
    for guest in guests:
        guest.wait_until_up()
    mom = MomRun(tmp_path)
    mom.config.write_text(_CONFIG.format(folder=tmp_path, uri=lab.libvirtd.uri, pids=lab.libvirtd.pid_folder))
    mom.start()
    try:

        def shown() -> list[dict[str, object]]:
            found: list[dict[str, object]] = json.loads(mom.verb("guests", "--json").stdout)
            return found

        known = {"balloon_cur", "balloon_max", "column.used", "mem_usable", "column.swap", "column.guarantee", "stats_age"}
        eventually("all figures are known", lambda: all(row[name] is not None for row in shown() for name in known), 60)
        rows = shown()
        assert {row["name"] for row in rows} == {guest.name for guest in guests}
        assert all(row["column.guarantee"] == 160 * 1024 for row in rows)
    finally:
        mom.kill()
