"""`mom policy explain`: from a decision back to what it was made of."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from mom_core import Entity, MomError, Snapshot, Source, print_prose, printable
from mom_plugins_policy.cli.inputs import (
    EXIT_NO,
    Given,
    config_option,
    defaults_option,
    files_argument,
    given_policies,
    given_snapshot,
    json_option,
    snapshot_options,
)
from mom_plugins_policy.cli.values import amount, plain_fault, plain_value, written_value
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.tools.excerpts import located
from mom_plugins_policy.tools.explain import UNKNOWN, ControlRequest, EntityExplanation, Missed, Precondition, Reason, explain
from mom_plugins_policy.tools.snapshots import did_you_mean


@click.command("explain")
@files_argument
@click.option("--guest", "guest_name", metavar="NAME", help="The guest, by name or UUID.")
@click.option("--host", "about_host", is_flag=True, help="The host.")
@click.option("--control", "control", metavar="CONTROL", help="Only this control.")
@snapshot_options
@defaults_option
@json_option
@config_option
def explain_command(
    paths: tuple[Path, ...], guest_name: str | None, about_host: bool, control: str | None, snapshot_path: Path | None, live: bool,
    with_default_policies: bool, as_json: bool, config_path: str | None,
) -> None:  # fmt: skip
    """Say why policies decide what they decide about a guest or the host on a snapshot, or why they decide nothing.

    Each decision is followed back through variables, parameters and notes to the fields that it was made of, and outwards through
    the conditions that had to hold. Without FILE: the policies that a running mom would use; with --live those that it uses, if it runs
    and enables the plugin http.

    Exit code 1 when the evaluation has errors about it, 2 when the policies or the snapshot cannot be read, or the evaluation is too
    large to tell.
    """
    if (guest_name is None) == (not about_host):
        raise click.UsageError("say whom it is about: --guest NAME, or --host")
    given = given_policies(paths, config_path, defaults=with_default_policies, live=live)
    taken = given_snapshot(snapshot_path, config_path, given.declarations, live=live)
    entity = taken.host.entity if about_host else _guest(taken, guest_name or "")
    try:
        explanation = _only(explain(given.compiled(taken), taken, entity), control)
    except PolicyError as error:
        given.refuse(error)
    if as_json:
        click.echo(json.dumps(_as_json(explanation, given), indent=2))
    else:
        for line in explanation_lines(explanation, given):
            print_prose(line, len(click.unstyle(line)) - len(click.unstyle(line).lstrip()) + 4)
    sys.exit(EXIT_NO if explanation.faults else 0)


def _guest(taken: Snapshot, name: str) -> Entity:
    for guest in taken.guests.values():
        if name in (guest.name, guest.id):
            return guest.entity
    names = [guest.name for guest in taken.guests.values()]
    hint = did_you_mean(name, names) or (f"there are: {', '.join(map(printable, names[:20]))}" if names else "there are no guests in it")
    raise MomError(f"the snapshot has no guest '{printable(name)}'", hint=hint)


def _only(explanation: EntityExplanation, control: str | None) -> EntityExplanation:
    if control is None:
        return explanation
    return EntityExplanation(
        explanation.entity,
        tuple(request for request in explanation.requests if request.control == control),
        tuple(missed for missed in explanation.missed if f'"{control}"' in missed.text or f"'{control}'" in missed.text),
        explanation.faults,
        explanation.stopped,
        explanation.left_out,
    )


# --- for people --------------------------------------------------------------------------------------------------------------------


def explanation_lines(explanation: EntityExplanation, given: Given) -> Iterator[str]:
    """An explanation as indented lines, the decisions first."""
    whose = printable(explanation.entity.name)
    decided = [request for request in explanation.requests if request.decision is not None]
    if not decided:
        yield click.style(f"{whose}: nothing is decided", bold=True)
        unknown = dict.fromkeys(name for missed in explanation.missed for name in _unknown(missed))
        if unknown:
            yield f"unknown: {', '.join(unknown)}"
    for fault in explanation.faults:
        yield from given.told(fault).splitlines()
        if fault.entity is None:
            yield "  the evaluation stopped there: what it had asked for the host is not applied, what it had decided for guests is"
        else:
            yield f"  nothing that was asked for {whose} is applied in this cycle"
    for request in [*decided, *(request for request in explanation.requests if request.decision is None)]:
        yield from _request_lines(request, whose, explanation, given)
    if explanation.left_out:
        yield f"{explanation.left_out:,} more requests, which later ones replaced, are not told"
    for number, missed in enumerate(explanation.missed):
        if number == 0:
            yield "not asked for:"
        yield from _missed_lines(missed, 1, given)


def _request_lines(request: ControlRequest, whose: str, explanation: EntityExplanation, given: Given) -> Iterator[str]:
    value = request.decision.value if request.decision is not None else request.value
    head = f"{whose}: {printable(request.control, 60)} = {amount(value)}"
    yield _line(click.style(head, bold=request.decision is not None) + _fate(request, explanation), request.source, given)
    if request.replaced:
        return
    yield f"  {_one_line(request.text)}"
    if request.reason is not None:
        yield from _reason_lines(request.reason, 2, given)
    if request.conditions:
        yield "  because"
        for condition in request.conditions:
            yield from _condition_lines(condition, 2, given)


def _fate(request: ControlRequest, explanation: EntityExplanation) -> str:
    if request.decision is not None:
        return ""
    if request.replaced:
        return ", replaced by a later request"
    if explanation.stopped or explanation.faults:
        return ", not applied"
    return ", which asks for nothing" if request.value is None else ", not applied"


def _missed_lines(missed: Missed, depth: int, given: Given) -> Iterator[str]:
    yield _line("  " * depth + _one_line(missed.text), missed.source, given)
    yield from _condition_lines(missed.condition, depth + 1, given)
    for further in missed.further:
        yield from _missed_lines(further, depth + 2, given)


def _unknown(missed: Missed) -> Iterator[str]:
    """The fields that are unknown in what kept a form from being reached."""
    todo = list(reversed(missed.condition.parts))
    while todo:
        reason = todo.pop()
        if reason.how == UNKNOWN:
            yield printable(reason.text)
        todo.extend(reversed(reason.parts))
    for further in missed.further:
        yield from _unknown(further)


def _condition_lines(condition: Precondition, depth: int, given: Given) -> Iterator[str]:
    text = _one_line(condition.text)
    if condition.kind == "condition":
        what = f"{text} is {'true' if condition.value else 'false'}"
        if not isinstance(condition.value, bool):
            what += f" ({written_value(condition.value)})"
    elif condition.kind == "loop":
        what = f"{written_value(condition.value)} in {text}"
    else:
        what = f"called in {text}"
    yield _line("  " * depth + what, condition.source, given)
    for part in condition.parts:
        yield from _reason_lines(part, depth + 1, given)


def _reason_lines(reason: Reason, depth: int, given: Given) -> Iterator[str]:
    value = written_value(reason.value)
    value = value if len(value) <= 200 else f"{value[:200]}…"
    how = f"  {_one_line(reason.how)}" if reason.how else ""
    branch = f" → {reason.branch}" if reason.branch else ""
    yield _line(f"{'  ' * depth}{_one_line(reason.text)} = {value}{click.style(how + branch, dim=True)}", reason.source, given)
    for part in reason.parts:
        yield from _reason_lines(part, depth + 1, given)


def _line(text: str, source: Source, given: Given) -> str:
    if not source.line:
        return text
    return f"{text}  {click.style(located(source.name, source.line, source.column, given.files), dim=True)}"


def _one_line(text: str) -> str:
    return printable(text, 300)


# --- for programs ------------------------------------------------------------------------------------------------------------------


def _as_json(explanation: EntityExplanation, given: Given) -> dict[str, Any]:
    return {
        "entity": {"scope": str(explanation.entity.scope), "id": explanation.entity.id, "name": explanation.entity.name},
        "stopped": explanation.stopped,
        "requests_left_out": explanation.left_out,
        "errors": [plain_fault(fault, given.files) for fault in explanation.faults],
        "requests": [
            {
                "control": request.control,
                "value": plain_value(request.decision.value if request.decision is not None else request.value),
                "decided": request.decision is not None,
                "replaced": request.replaced,
                "form": request.text,
                **_place(request.source, given),
                "reason": _plain_reasons([request.reason], given)[0] if request.reason is not None else None,
                "because": [_plain_condition(condition, given) for condition in request.conditions],
            }
            for request in explanation.requests
        ],
        "not_asked_for": _plain_missed(explanation.missed, given),
    }


def _plain_missed(several: Sequence[Missed], given: Given) -> list[dict[str, Any]]:
    return [
        {
            "form": missed.text,
            **_place(missed.source, given),
            "because": _plain_condition(missed.condition, given),
            **({"not_reached_either": _plain_missed(missed.further, given)} if missed.further else {}),
        }
        for missed in several
    ]


def _place(source: Source, given: Given) -> dict[str, Any]:
    if not source.line:
        return {}
    return {"policy": source.name, "file": given.files.get(source.name), "line": source.line, "column": source.column}


def _plain_condition(condition: Precondition, given: Given) -> dict[str, Any]:
    return {
        "kind": condition.kind,
        "form": condition.text,
        "value": plain_value(condition.value),
        **_place(condition.source, given),
        "reasons": _plain_reasons(condition.parts, given),
    }


def _plain_reasons(reasons: Sequence[Reason], given: Given) -> list[dict[str, Any]]:
    return [
        {
            "form": reason.text,
            "value": plain_value(reason.value),
            **({"how": reason.how} if reason.how else {}),
            **({"branch": reason.branch} if reason.branch else {}),
            **_place(reason.source, given),
            **({"reasons": _plain_reasons(reason.parts, given)} if reason.parts else {}),
        }
        for reason in reasons
    ]
