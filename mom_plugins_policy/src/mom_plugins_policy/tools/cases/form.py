"""The shape of a file of tests, which pydantic checks. What its parts mean, such as whether a field is declared, is the loader's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from mom_plugins_policy.language.errors import KINDS
from mom_plugins_policy.tools.snapshots import Check, called, did_you_mean


class Form(BaseModel):
    """A mapping with keys of its own. Messages call a value by its description; what has none is checked by whoever reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    where: ClassVar[str]
    """How messages call the mapping, after "there is no such key"."""
    holds: ClassVar[str]
    """What it is a mapping of."""


def _one_of(known: frozenset[str]) -> AfterValidator:
    def check(text: str) -> str:
        if text not in known:
            raise ValueError(did_you_mean(text, known) or f"there are {', '.join(sorted(known))}")
        return text

    return AfterValidator(check)


def _identifier(text: str) -> str:
    if not text.isidentifier():
        raise ValueError
    return text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Names: TypeAlias = Annotated[
    list[Annotated[str, AfterValidator(_identifier)]], BeforeValidator(_listed), Field(description="a name, or a list of names")
]


class FileForm(Form):
    """A file."""

    where = "in a file of tests"
    holds = "`policies`, `given` and `tests`"

    policies: Any = "default"
    parameters: Any = None
    declare: Any = None
    given: Any = None
    tests: Annotated[list[Any], Field(description="a list of tests")] = []


class DeclareForm(Form):
    """Fields and controls of plugins that are not installed."""

    where = "here"
    holds = "`host`, `guests` and `controls` to lists of names"

    host: _Names = []
    guests: _Names = []
    controls: _Names = []


class TestForm(Form):
    """A test. What it leaves out, the file gives."""

    where = "in a test"
    holds = "`name`, `given` and `expect`"

    name: Any = None
    policies: Any = None
    parameters: Any = None
    given: Any = None
    expect: Any = None


class GivenForm(Form):
    """What is given: a snapshot, whose parts are checked when those of the file and of the test are put together."""

    where = "in what is given"
    holds = "`host`, `guests`, `properties` and `history`"

    snapshot: Annotated[str | None, Field(description="the name of a JSON file", min_length=1)] = None
    host: Any = None
    guests: Any = None
    properties: Any = None
    history: Any = None
    interval: Any = None
    remembered: Annotated[dict[str, Any], Field(description="a mapping of `host` or guest names to notes")] = {}


class ExpectForm(Form):
    """What is expected."""

    where = "in what is expected"
    holds = "`decisions`, `errors`"

    decisions: Any = None
    others: Annotated[Literal["any", "none"] | None, Field(description="`any` or `none`")] = None
    errors: Annotated[list[Any] | Literal["any", "none"] | None, Field(description="a list of errors, `any` or `none`")] = None
    remembered: Any = None


class ErrorForm(Form):
    """An error that is expected; what is left out may be anything."""

    where = "in an error"
    holds = "`kind`, `guest`, `policy`, `line`, `message`"

    kind: Annotated[str, _one_of(KINDS), Field(description="a kind of error", validate_default=True)] = ""
    guest: Annotated[str | None, Field(description="a text")] = None
    policy: Annotated[str | None, Field(description="a text")] = None
    line: Annotated[PositiveInt | None, Field(description="the number of a line")] = None
    message: Annotated[str | None, Field(description="a text")] = None


AnyForm = TypeVar("AnyForm", bound=Form)


def filled(form: type[AnyForm], value: object, check: Check, way: Sequence[str | int] = ()) -> AnyForm:
    """The form with all that is right of a value. What is wrong is noted, and left out: the rest is still worth a look."""
    given = check.mapping(value, way, form.holds)
    try:
        return form.model_validate(given)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    known = list(form.model_fields)
    for path in dict.fromkeys(_path(given, each["loc"]) for each in wrong):
        name = str(path[0])
        if name in known:
            described = form.model_fields[name].description
            causes = [str(each["ctx"]["error"]) for each in wrong if each["type"] == "value_error" and each["loc"] == path]
            check.complain((*way, *path), f"must be {described}, not {called(_at(given, path))}", next(filter(None, causes), ""))
    check.keys(given, way, known, form.where)
    bad = {each["loc"][0] for each in wrong}
    return form.model_construct(None, **{key: inner for key, inner in given.items() if key not in bad})


def _path(given: Mapping[str, Any], loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where an error is: pydantic says behind that which member of a union it tried."""
    value = given.get(str(loc[0]))
    return loc[:2] if isinstance(value, list) and len(loc) > 1 and isinstance(loc[1], int) and loc[1] < len(value) else loc[:1]


def _at(given: Mapping[str, Any], path: tuple[str | int, ...]) -> object:
    value = given.get(str(path[0]))
    return value[path[1]] if isinstance(value, list) and len(path) > 1 and isinstance(path[1], int) else value
