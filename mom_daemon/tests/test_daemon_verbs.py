"""The verbs that a daemon's unit needs."""

from __future__ import annotations

import importlib

import click
import pytest

from mom_daemon import Verb
from mom_daemon.verbs import RESTORE, RUN


@pytest.mark.parametrize(("name", "verb"), [("run", RUN), ("restore", RESTORE)])
def test_each_verb_is_a_command_of_that_name_and_says_in_the_list_what_it_is(name: str, verb: Verb) -> None:
    module, _, attribute = verb.target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    assert len(verb.summary) < 80
