"""`mom policy explain`: which form decided something, and the conditions around it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from mom_core import Source, first_names, printable
from mom_daemon import NoSuchGuest, as_caller, config_option, find_guest, json_option, print_prose
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, defaults_option, files_argument, given_policies, given_snapshot, snapshot_options
from mom_plugins_policy.cli.values import amount, plain, written_value
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.tools.excerpts import located
from mom_plugins_policy.tools.explain import ControlRequest, EntityExplanation, FormValue, Precondition, explain

_SHOWN_GUESTS: Final = 10


@click.command("explain")
@files_argument
@click.option("--guest", "guest_name", metavar="NAME", help="The guest, by name or UUID.")
@click.option("--host", "about_host", is_flag=True, help="The host.")
@snapshot_options
@defaults_option
@json_option
@config_option
@as_caller
def explain_command(
    paths: tuple[Path, ...], guest_name: str | None, about_host: bool, snapshot_path: Path | None, live: bool,
    with_default_policies: bool, as_json: bool, config_path: str | None,
) -> None:  # fmt: skip
    """Say which forms decide about a guest or the host on a snapshot, with the conditions around them, or why nothing is decided.

    Without FILE: the policies that a running mom would use; with --live those that it uses, if it runs and enables the plugin http.

    Exit code 1 when the evaluation has errors about it, 2 when the policies or the snapshot cannot be read, or the evaluation is too
    large to tell.
    """
    if (guest_name is None) == (not about_host):
        raise click.UsageError("say whom it is about: --guest NAME, or --host")
    given = given_policies(paths, config_path, defaults=with_default_policies, live=live)
    taken = given_snapshot(snapshot_path, config_path, given.declarations, live=live)
    try:
        entity = taken.host.entity if about_host else find_guest(taken.guests, guest_name or "").entity
    except NoSuchGuest as error:
        if live:
            raise
        where = f"the snapshot {snapshot_path}" if snapshot_path is not None else "the example"
        names = first_names([printable(guest.name) for guest in taken.guests.values()], _SHOWN_GUESTS) or "no guest"
        advice = error.hint if error.hint.startswith("did you") else f"it has {names};"
        raise NoSuchGuest(f"{error.message} in {where}", hint=f"{advice} --live looks at this host") from None
    try:
        explanation = explain(given.compiled(taken), taken, entity)
    except PolicyError as error:
        given.refuse(error)
    if as_json:
        click.echo(json.dumps(plain(explanation, given.files), indent=2))
    else:
        for line in _lines(explanation, given):
            print_prose(line, len(click.unstyle(line)) - len(click.unstyle(line).lstrip()) + 4)
    sys.exit(EXIT_NO if explanation.errors else 0)


def _lines(explanation: EntityExplanation, given: Given) -> Iterator[str]:
    """For a person: indented lines, the decisions first."""
    whose = printable(explanation.entity.name)
    if not any(request.decided for request in explanation.requests):
        yield click.style(f"{whose}: nothing is decided", bold=True)
        unknown = dict.fromkeys(text for missed in explanation.not_asked_for for text, value in missed.because.values if value is None)
        if unknown:
            yield f"unknown: {', '.join(map(printable, unknown))}"
    for fault in explanation.errors:
        yield from given.told(fault).splitlines()
        if fault.entity is None:
            yield "  the evaluation stopped there: what it had asked for the host is not applied, what it had decided for guests is"
        else:
            yield f"  nothing that was asked for {whose} is applied in this cycle"
    for request in sorted(explanation.requests, key=lambda request: not request.decided):
        yield from _request_lines(request, whose, given)
    if explanation.not_asked_for:
        yield "not asked for:"
    for missed in explanation.not_asked_for:
        yield _line(f"  {printable(missed.form, 300)}", missed.source, given)
        yield from _condition_lines(missed.because, given)


def _request_lines(request: ControlRequest, whose: str, given: Given) -> Iterator[str]:
    fate = "" if request.decided else ", which asks for nothing" if request.value is None else ", not applied"
    head = click.style(f"{whose}: {printable(request.control, 60)} = {amount(request.value)}", bold=request.decided)
    yield _line(head + fate, request.source, given)
    yield f"  {printable(request.form, 300)}"
    yield from _value_lines(request.values)
    if request.because:
        yield "  because"
    for condition in request.because:
        yield from _condition_lines(condition, given)


def _condition_lines(condition: Precondition, given: Given) -> Iterator[str]:
    yield _line(f"    {printable(condition.form, 300)} is {'true' if condition.truth else 'false'}", condition.source, given)
    yield from _value_lines(condition.values, "      ")


def _value_lines(values: Sequence[FormValue], margin: str = "    ") -> Iterator[str]:
    for text, value in values:
        shown = written_value(value)
        yield f"{margin}{printable(text, 300)} = {shown if len(shown) <= 200 else f'{shown[:200]}…'}"


def _line(text: str, source: Source, given: Given) -> str:
    return f"{text}  {click.style(located(source.name, source.line, source.column, given.files), dim=True)}"
