"""`mom policy check`: what is wrong with policies, and whether they can set a control out of bounds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mom_core import Guest, Host, MomError, Scope, Severity, Snapshot, Unit, printable
from mom_plugins_policy.checks import Remark, check, counted
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, config_option, defaults_option, files_argument, given_policies, json_option
from mom_plugins_policy.tools.excerpts import excerpt, located

if TYPE_CHECKING:
    from mom_plugins_policy.prove.attempts import Bound, Violation
    from mom_plugins_policy.prove.proof import ProofResult


@click.command("check")
@files_argument
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings, too.")
@click.option("--prove", "control", metavar="CONTROL", help="Find out whether the policies can set CONTROL out of bounds.")
@click.option(
    "--at-least", "lows", metavar="BOUND", multiple=True, help="With --prove: a number, a field or an expression. May be repeated."
)
@click.option("--at-most", "highs", metavar="BOUND", multiple=True, help="The same for the other side.")
@click.option(
    "--grow-at-most",
    "growths",
    metavar="BOUND",
    multiple=True,
    help="With --prove: what all guests together get more than they have. A number, a field of the host or an expression. May be repeated.",
)
@click.option(
    "--return-at-most",
    "returns",
    metavar="STEP",
    multiple=True,
    help="With --prove: by how much what a guest gets in one cycle is taken back in the next, if nothing else changes. May be repeated.",
)
@click.option(
    "--assume",
    "assumptions",
    metavar="EXPR",
    multiple=True,
    help="With --prove: only where EXPR is true, for each guest (`guest`) or the host (`Host`). May be repeated.",
)
@defaults_option
@json_option
@config_option
def check_command(
    paths: tuple[Path, ...], strict: bool, control: str | None, lows: tuple[str, ...], highs: tuple[str, ...],
    growths: tuple[str, ...], returns: tuple[str, ...], assumptions: tuple[str, ...], with_default_policies: bool, as_json: bool,
    config_path: str | None,
) -> None:  # fmt: skip
    """Find mistakes in policies before they go live. Without FILE: in the policies that a running mom would use.

    Errors are what the policies are refused for, and what fails for certain when it is reached. Warnings are what is legal, and
    hardly meant. Exit code 1 when there are errors (with --strict: or warnings), 2 when the policies cannot be read.

    With --prove, the bounds are those given, or else those that the control's plugin declares; for balloon_target also that no guest is
    taken below what it is promised or uses, nor gets more than its maximum, and that all guests together get no more than the host has, and
    that no guest is given in one cycle what is taken from it in the next.
    `holds` is certain. Otherwise a snapshot is printed in which the bound does not hold, to be tried with `mom policy eval --snapshot`;
    or the place at which the proof ended, when none was found. Exit code 1 unless all bounds hold.
    """
    if control is None and (lows or highs or growths or returns or assumptions):
        raise click.UsageError("--at-least, --at-most, --grow-at-most, --return-at-most and --assume say what --prove CONTROL is to prove")
    given = given_policies(paths, config_path, defaults=with_default_policies)
    remarks = check(given.texts, given.declarations, given.limits)
    errors, warnings = counted(remarks)
    if control is not None and not errors:
        _prove(given, control, (lows, highs, growths, returns), assumptions, as_json=as_json)
        return
    if as_json:
        click.echo(json.dumps(_as_json(remarks, given), indent=2))
    else:
        _show(remarks, given)
    if errors or (strict and warnings):
        sys.exit(EXIT_NO)


def _show(remarks: Sequence[Remark], given: Given) -> None:
    """Errors first, then warnings, and how many there are."""
    for severity in (Severity.ERROR, Severity.WARNING):
        for remark in remarks:
            if remark.severity is severity:
                click.echo(told(remark, given.texts, given.files))
    errors, warnings = counted(remarks)
    found = [_count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    click.echo(f"{_count(len(given.texts), 'policy', 'policies')}: {', '.join(found) or 'no errors, no warnings'}")


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def told(remark: Remark, texts: Mapping[str, str], files: Mapping[str, str]) -> str:
    """A remark with its place, the line that it is about, and what to do."""
    name, line, column = remark.source
    place = located(name, line, column, files)
    head = printable(f"{place}: " * bool(place) + f"{remark.severity}: {remark.message} [{remark.rule}]", 2000)
    text = texts.get(name, "")
    below = excerpt(text, line, column, width=max(1, remark.end - _offset(text, line, column)))
    return "\n".join(part for part in (head, below, f"    {printable(remark.hint, 500)}" if remark.hint else "") if part)


def _offset(text: str, line: int, column: int) -> int:
    """The offset of a place in a text."""
    before = text.split("\n", line)[: max(0, line - 1)]
    return sum(len(one) + 1 for one in before) + column - 1


def _as_json(remarks: Sequence[Remark], given: Given) -> dict[str, Any]:
    plain = [_plain(remark, given) for remark in remarks]
    errors, warnings = counted(remarks)
    return {
        "policies": [{"name": name, "file": given.files.get(name)} for name in sorted(given.texts)],
        "errors": [one for one in plain if one["severity"] == "error"],
        "warnings": [one for one in plain if one["severity"] == "warning"],
        "counts": {"errors": errors, "warnings": warnings},
    }


def _plain(remark: Remark, given: Given) -> dict[str, Any]:
    name, line, column = remark.source
    found = {
        "severity": str(remark.severity),
        "rule": remark.rule,
        "policy": name,
        "file": given.files.get(name),
        "line": line,
        "column": column,
        "message": remark.message,
        "hint": remark.hint,
    }
    if remark.end:
        before = given.texts[name][: remark.end]
        found["end_line"] = before.count("\n") + 1
        found["end_column"] = remark.end - (before.rfind("\n") + 1) + 1
    return found


# --- proofs ------------------------------------------------------------------------------------------------------------------------


def _prove(
    given: Given, control: str, asked: Sequence[Sequence[str]], assumptions: Sequence[str], *, as_json: bool
) -> None:  # fmt: skip
    try:
        from mom_plugins_policy.prove.proof import (
            ProofAnswer,
            bound_of,
            default_bounds,
            growth_bound,
            prove,
            return_bound,
            scope_of_control,
        )
    except ModuleNotFoundError as error:
        if error.name != "z3":
            raise
        raise click.UsageError("proofs need z3 (pip install z3-solver for the Python of mom); all else needs no --prove") from None
    policy = given.compiled()
    try:
        scope = scope_of_control(control, policy)
        lows, highs, growths, returns = asked
        bounds = [bound_of(text, at_least=True, scope=scope, declarations=given.declarations) for text in lows]
        bounds += [bound_of(text, at_least=False, scope=scope, declarations=given.declarations) for text in highs]
        bounds += [growth_bound(text, declarations=given.declarations) for text in growths]
        bounds += [return_bound(text) for text in returns]
        bounds = bounds or default_bounds(control, scope, given.declarations)
        if not bounds:
            raise click.UsageError(f"{control} has no bounds of its own: give --at-least or --at-most")
        results = prove(policy, control, bounds, scope=scope, assume=assumptions)
    except MomError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps(_results_as_json(control, results), indent=2))
    else:
        _show_results(control, results, given)
    if any(result.answer is not ProofAnswer.HOLDS for result in results):
        sys.exit(EXIT_NO)


def _show_results(control: str, results: Sequence[ProofResult], given: Given) -> None:
    from mom_plugins_policy.prove.proof import ALWAYS_ASSUMED, ProofAnswer
    from mom_plugins_policy.tools.snapshots import as_json

    for result in results:
        click.echo(f"{control} {result.bound}: {'does not hold' if result.answer is ProofAnswer.VIOLATED else result.answer}")
        if result.bound.meaning:
            click.echo(f"    {result.bound.meaning}")
        for assumption in result.assumptions:
            click.echo(f"    assuming that {assumption}")
        if result.why:
            click.echo(f"    {result.why}")
        if result.violation is not None and result.counterexample is not None:
            spec = given.declarations.controls.get(control)
            unit = _unit(spec.unit if spec is not None else None)
            click.echo(f"    {_broken(result.bound, result.violation, unit)}{': set by' if result.form is not None else ''}")
        if result.form is not None:
            name, line, column = result.form.source
            click.echo(f"    {located(name, line, column, given.files)}")
            click.echo(excerpt(given.texts.get(name, ""), line, column, "        ", result.form.end - result.form.start))
        if result.counterexample is not None:
            click.echo("    when these are the fields, and all others are unknown:")
            for fields in _fields(result.counterexample, given):
                click.echo(f"        {fields}")
            click.echo("    The same for `mom policy eval --snapshot FILE`, which decides so:")
            click.echo(json.dumps(as_json(result.counterexample)))
        if result.later is not None:
            click.echo("    and so a cycle later, when nothing has changed but that:")
            click.echo(json.dumps(as_json(result.later)))
    click.echo(f"taken for granted: {ALWAYS_ASSUMED}")


def _broken(bound: Bound, violation: Violation, unit: str) -> str:
    """What speaks against a bound, in a sentence."""
    from mom_plugins_policy.prove.attempts import Subject

    whose = printable(violation.decision.entity.name, 60)
    gets, limit = _number(violation.value, unit), _number(violation.bound, unit)
    if bound.subject is Subject.GROWTH:
        return f"all guests together get {gets} more, and {whose} the most of that, where the bound is {limit}"
    if bound.subject is Subject.RETURN:
        before, between = _number(violation.before, unit), _number(violation.between, unit)
        return f"{whose} has {before}, gets {between}, and in the next cycle {gets}, where the bound is {limit}"
    return f"{whose} gets {gets}, where the bound is {limit}"


def _fields(taken: Snapshot, given: Given) -> Iterator[str]:
    """The fields of a snapshot with their units, a line for the host and one for each guest; older samples, if there are any."""
    entities: tuple[Host | Guest, ...] = (taken.host, *taken.guests.values())
    for entity in entities:
        scope = Scope.HOST if entity is taken.host else Scope.GUEST
        shown: list[str] = []
        for name, value in entity.fields.items():
            if value is not None:
                spec = given.declarations.fields.get((scope, name))
                shown.append(f"{name} {_number(value, _unit(spec.unit if spec else None))}")
        yield printable(f"{entity.name}: {', '.join(shown) or 'none'}", 2000)
    if taken.history:
        yield f"(and {_count(len(taken.history), 'older sample')})"


def _unit(unit: Unit | None) -> str:
    """How a number's unit is written behind it."""
    return "" if unit in (None, Unit.COUNT, Unit.RATIO, Unit.FLAG, Unit.TEXT, Unit.LIST) else f" {unit}"


def _number(value: object, unit: str) -> str:
    return f"{value:,.15g}{unit}" if isinstance(value, int | float) else printable(repr(value), 60)


def _results_as_json(control: str, results: Sequence[ProofResult]) -> dict[str, Any]:
    from mom_plugins_policy.prove.proof import ALWAYS_ASSUMED
    from mom_plugins_policy.tools.snapshots import as_json

    found: list[dict[str, Any]] = []
    for result in results:
        source = result.form.source if result.form is not None else None
        violation = result.violation
        found.append(
            {
                "bound": result.bound.text,
                "subject": str(result.bound.subject),
                "side": "at least" if result.bound.at_least else "at most",
                "meaning": result.bound.meaning,
                "answer": str(result.answer),
                "assumptions": list(result.assumptions),
                "why": result.why,
                "policy": source.name if source is not None else None,
                "line": source.line if source is not None else None,
                "column": source.column if source is not None else None,
                "entity": violation.decision.entity.name if violation is not None else None,
                "value": violation.value if violation is not None else None,
                "limit": violation.bound if violation is not None else None,
                "later": as_json(result.later) if result.later is not None else None,
                "snapshot": as_json(result.counterexample) if result.counterexample is not None else None,
            }
        )
    return {"control": control, "claims": found, "taken_for_granted": ALWAYS_ASSUMED}
