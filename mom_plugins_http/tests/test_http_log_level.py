"""How much mom logs, changed while it runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mom_plugins_http.cli.log_level_verb import log_level_command

if TYPE_CHECKING:
    from conftest import Served

LOGGERS = ("mom", "mom.plugin.ksm")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    logging.getLogger("mom").setLevel(logging.INFO)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_the_level_of_mom_and_of_one_plugin_can_be_changed(served: Served) -> None:
    assert served.get("/v1/log-level") == {"level": "info", "plugins": {}}
    put = partial(served.ask, "PUT", "/v1/log-level")
    assert put(json={"level": "debug", "plugin": "ksm"}) == {"level": "info", "plugins": {"ksm": "debug"}}
    assert logging.getLogger("mom.plugin.ksm").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("mom.plugin.balloon").isEnabledFor(logging.DEBUG)
    assert put(json={"level": "error"})["level"] == "error"
    assert put(json={"level": None, "plugin": "ksm"}) == {"level": "error", "plugins": {}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"level": "loud"}, 400),
        ({"level": None}, 400),
        ({}, 400),
        ({"plugin": "ksm"}, 400),
        ({"level": ["debug"]}, 400),
        ({"level": "debug", "plugin": "nobody"}, 404),
        ({"level": "debug", "plugin": {}}, 400),
        ({"level": "debug", "more": 1}, 400),
        ([], 400),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(shared: Served, body: object, status: int) -> None:
    assert shared.ask("PUT", "/v1/log-level", status, json=body)["hint"]
    assert shared.get("/v1/log-level") == {"level": "info", "plugins": {}}


def test_the_verb(served: Served) -> None:
    config = served.path.parent / "mom.yaml"
    config.write_text(f"plugins: {{http: {{socket: {served.path}}}}}\n")
    run = CliRunner()
    assert run.invoke(log_level_command, ["-c", str(config)]).output == "mom logs at level info.\n"
    done = run.invoke(log_level_command, ["debug", "--plugin", "ksm", "-c", str(config)])
    assert done.output == "mom logs at level info.\nThe plugin ksm logs at level debug.\n"
    assert run.invoke(log_level_command, ["reset", "--plugin", "ksm", "-c", str(config)]).output == "mom logs at level info.\n"
    assert run.invoke(log_level_command, ["reset"]).exit_code == 2
    assert run.invoke(log_level_command, ["loud"]).exit_code == 2
