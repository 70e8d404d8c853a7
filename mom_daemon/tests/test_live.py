"""Commands that only read wait as long as a person would."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mom_core import Guest, PluginSettings, hookimpl
from mom_daemon.look.sources import LOOK_SECONDS, look
from mom_devkit import config_of


class SlowHost:
    """Hypervisor that answers later than the deadline of a cycle."""

    uri = "slow:///"

    class Settings(PluginSettings):
        deadline: Any = 0.2

    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.given = settings.deadline

    @hookimpl
    def mom_hypervisor(self) -> Any:
        return self

    def guests(self) -> Sequence[Guest]:
        time.sleep(0.6)
        return [Guest("1", f"booting, given {self.given:g} s")]


def test_guests_of_a_slow_host_are_listed_though_a_cycle_would_not_wait_for_them(tmp_path: Path) -> None:
    seen, problems = look(config_of(tmp_path, {"slow": SlowHost}))
    assert [row[1] for row in seen["guests"]["rows"]] == [f"booting, given {LOOK_SECONDS:g} s"]
    assert not problems
