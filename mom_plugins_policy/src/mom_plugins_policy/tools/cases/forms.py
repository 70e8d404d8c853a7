"""The shape of a file of tests, which pydantic checks. What its parts mean, such as whether a field is declared, is the loader's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, PositiveInt, StringConstraints

from mom_core import StrictModel
from mom_plugins_policy.language.errors import KINDS, Fault
from mom_plugins_policy.language.syntax import written_string
from mom_plugins_policy.tools.snapshots import FieldName, FieldValue, SnapshotForm, did_you_mean

Any_ = TypeVar("Any_")


def _kind(text: str) -> str:
    if text not in KINDS:
        raise ValueError(f"there is no such kind of error ({did_you_mean(text, KINDS) or 'there are ' + ', '.join(sorted(KINDS))})")
    return text


def _in_policy(value: object) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float) and str(value) not in ("inf", "-inf", "nan"):
        return str(value)
    if isinstance(value, str) and written_string(value)[1:-1] == value:
        return written_string(value)
    raise ValueError("must be a number, true, false, null or a text without both kinds of quotes")


_Or_nothing = BeforeValidator(lambda value: {} if value is None else value)
Mapped: TypeAlias = Annotated[dict[str, Any_], _Or_nothing]
Listed: TypeAlias = Annotated[list[Any_], BeforeValidator(lambda value: [value] if isinstance(value, str | dict) else value)]
Parameters: TypeAlias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_-]*\z")], Annotated[str, PlainValidator(_in_policy)]], _Or_nothing
]
Policies: TypeAlias = Listed[str | dict[str, str]]


class DeclareForm(StrictModel):
    """Fields and controls of plugins that are not installed."""

    host: Listed[FieldName] = Field(default_factory=list)
    guests: Listed[FieldName] = Field(default_factory=list)
    controls: Listed[FieldName] = Field(default_factory=list)


class GivenForm(SnapshotForm):
    """The given: a snapshot, in a JSON file or here or both, and what policies remember, by `host` or guest name."""

    snapshot: Annotated[str, StringConstraints(min_length=1)] | None = None
    remembered: Mapped[Mapped[FieldValue]] = Field(default_factory=dict)


Given: TypeAlias = Annotated[GivenForm, _Or_nothing]


class ExpectedError(StrictModel):
    """An error that an evaluation is to have; what is left out may be anything, `message` is a part of the message."""

    kind: Annotated[str, AfterValidator(_kind)]
    guest: str | None = None
    policy: str | None = None
    line: PositiveInt | None = None
    message: str = ""

    def fits(self, fault: Fault) -> bool:
        """True if an error is this one."""
        wanted = ((self.kind, fault.kind), (self.guest, fault.guest), (self.policy, fault.name), (self.line, fault.line))
        return self.message in fault.message and all(one is None or one == got for one, got in wanted)

    def __str__(self) -> str:
        about = (("guest", self.guest), ("in", self.policy), ("line", self.line), ("with", self.message and f"'{self.message}'"))
        return " ".join([self.kind, *(f"{word} {what}" for word, what in about if what)])


def _errors(value: object) -> object:
    if isinstance(value, list):
        return [{"kind": one} if isinstance(one, str) else one for one in value]
    return None if value == "any" else [] if value == "none" else value


Errors: TypeAlias = Annotated[list[ExpectedError] | None, BeforeValidator(_errors)]


class ExpectForm(StrictModel):
    """The expected: decisions by `host` or guest name and control, whether there may be others, errors (None: any), and notes."""

    decisions: Mapped[Mapped[Any]] = Field(default_factory=dict)
    others: Literal["any", "none"] = "none"
    errors: Errors = Field(default_factory=list)
    remembered: Mapped[Mapped[FieldValue]] | None = None


class CaseForm(StrictModel):
    """A test. What it leaves out, the file gives."""

    name: Annotated[str, StringConstraints(pattern=r"\S")]
    policies: Policies | None = None
    parameters: Parameters = Field(default_factory=dict)
    given: Given = GivenForm()
    expect: ExpectForm


class CasesForm(StrictModel):
    """A file of tests."""

    policies: Policies = Field(default=["default"])
    parameters: Parameters = Field(default_factory=dict)
    declare: DeclareForm = DeclareForm()
    given: Given = GivenForm()
    tests: list[CaseForm]
