"""Policies through the API: read, checked and changed, by who has seen the version that they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, Field
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import MomError, PluginContext, UnitError, printable
from mom_daemon import Time, described
from mom_plugins_http.routes.bodies import JSON, BodyModel, Says, read_body, refused, text_of
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker
from mom_toolkit import PolicyConflict, PolicyProblem, PolicyRefused, PolicyState, PolicyTexts, json_text

Result = TypeVar("Result")

LONGEST_NAME: Final = 128
"""Characters of a policy's name."""

MOST_JOBS: Final = 64
"""Changes, and checks, that may wait for each other; a compilation takes some hundredths of a second, the largest ones seconds."""

_AGAIN: Final = "look at what they are now, and decide again"


def _named(changes: dict[str, str | None]) -> dict[str, str | None]:
    for name in changes:
        if (wrong := _wrong_name(name)) is not None:
            raise refused(*wrong)
    return changes


ChangedTexts = Annotated[
    dict[str, Annotated[str | None, Field(description="The text to set; null removes the policy.")]],
    AfterValidator(_named),
    Says("be an object: policy names to texts, or null to remove one", 'such as {"changes": {"50_mine": "…"}}'),
]
"""What is to be set and removed, by the policy's name."""


class ChangesModel(BodyModel):
    """Changes of several policies, all or none."""

    changes: ChangedTexts
    replace_all: Annotated[bool, Says("be true or false", "leave it out to keep all other policies")] = False
    """Remove all other policies, those from files too."""


class PolicyTextModel(BodyModel):
    """A policy."""

    text: Annotated[str, Says("be the policy's text", 'send {"text": "…"}, or the text itself as text/plain')]


class VersionModel(BodyModel):
    """Which version is wanted."""

    version: Annotated[str, Says("be a version that the history has", "GET /v1/policy-history lists them")]


class ListedPolicyModel(TypedDict):
    """A policy in force."""

    name: str
    origin: str
    text: str


class PoliciesModel(TypedDict):
    """All policies in force."""

    version: str
    items: list[ListedPolicyModel]


class PolicyModel(ListedPolicyModel):
    """One policy."""

    version: str


class ChangedModel(TypedDict):
    """The policies after a change."""

    version: str
    names: list[str]


@described
class PolicyProblemModel(TypedDict):
    """What is wrong with a policy, and where."""

    name: str
    line: int
    column: int
    kind: str
    message: str
    severity: Literal["error", "warning"]
    hint: str
    """What to do; may be empty."""


@described
class CheckedModel(TypedDict):
    """What is wrong with changes."""

    good: bool
    """Whether the changes could be made: there may be warnings."""
    problems: list[PolicyProblemModel]
    warnings: list[PolicyProblemModel]


class PolicyChangeModel(TypedDict):
    """A change that was made."""

    version: str
    time: Time
    who: str
    what: str


class PastPolicyChangeModel(PolicyChangeModel):
    """The same, with how texts differ."""

    diff: str


class PolicyHistoryModel(TypedDict):
    """The last changes, newest first."""

    next: None
    items: list[PastPolicyChangeModel]


class PolicyRoutes:
    """Everything about policies. What compiles runs in a thread of its own; the evaluator makes each change as a whole.

    :param worker: makes the changes
    :param reading: does what those may ask for who may only read, so that no change waits for it
    """

    def __init__(self, context: PluginContext, worker: Worker, reading: Worker) -> None:
        self._context = context
        self._worker = worker
        self._reading = reading

    def routes(self) -> list[Route]:
        """Its operations."""
        all_, one, change = "/v1/policies", "/v1/policies/{name}", Right.CHANGE
        read, several = "All policies in force; the ETag is their version.", "Set and remove several policies, all or none."
        check, reset = "Say what is wrong with changes, without making them.", "Forget what was changed at run time; read the files again."
        back, past = "Make the policies what they were in an earlier version.", "The last changes, newest first, with who, when and what."
        changes, version = {JSON: ChangesModel}, {JSON: VersionModel}
        text = {"text/plain": str, JSON: PolicyTextModel}
        most = (Parameter("limit", "How many changes to list.", "integer", 1, 50, 50),)
        changed = ChangedModel
        return [
            Route("GET", all_, "policies", read, self.policies, PoliciesModel),
            Route("PATCH", all_, "changePolicies", several, self.patch, changed, change, body=changes, versioned=True),
            Route("POST", "/v1/policy-check", "checkPolicies", check, self.check, CheckedModel, body=changes),
            Route("POST", "/v1/policy-reset", "resetPolicies", reset, self.reset, changed, change, versioned=True),
            Route("POST", "/v1/policy-rollback", "rollBackPolicies", back, self.roll_back, changed, change, body=version, versioned=True),
            Route("GET", "/v1/policy-history", "policyHistory", past, self.history, PolicyHistoryModel, parameters=most),
            Route("GET", one, "policy", "One policy.", self.policy, PolicyModel),
            Route("PUT", one, "setPolicy", "Set one policy.", self.put, changed, change, body=text, versioned=True),
            Route("DELETE", one, "removePolicy", "Remove one policy.", self.delete, changed, change, versioned=True),
        ]

    def texts(self) -> PolicyTexts:
        """The evaluator's. Raises `ProblemError` when there is none."""
        texts = self._context.service(PolicyTexts)
        if texts is None:
            raise ProblemError(409, "no enabled plugin has policies", "enable the plugin policy in the configuration")
        return texts

    async def run(self, job: Callable[[], Result], *, reads: bool = False) -> Result:
        """Have something done that takes its time, in its turn. Raises `ProblemError` for what it raises."""
        worker = self._reading if reads else self._worker
        if worker.full:
            what = "checks" if reads else "changes"
            raise ProblemError(503, f"too many {what} of policies wait", "ask again in a moment", headers={"retry-after": "1"})
        try:
            return await worker.run(job)
        except PolicyRefused as error:
            problems = [_problem(one) for one in error.problems]
            raise ProblemError(422, "the policies cannot be used; nothing has changed", error.hint, more={"problems": problems}) from None
        except PolicyConflict as error:
            raise ProblemError(412, error.message, _AGAIN, more={"version": error.version}, headers={"etag": _tag(error.version)}) from None
        except UnitError as error:
            raise ProblemError(400, error.message, error.hint) from None
        except MomError as error:
            raise ProblemError(409, error.message, error.hint) from None

    async def policies(self, call: ApiCall) -> Response:
        """All policies in force."""
        state = await self._state()
        items: list[ListedPolicyModel] = [{"name": name, "origin": text.origin, "text": text.text} for name, text in state.texts.items()]
        made: PoliciesModel = {"version": state.version, "items": items}
        return _tagged(call, state, made)

    async def policy(self, call: ApiCall) -> Response:
        """One policy."""
        state = await self._state()
        name = call.path["name"]
        found = state.texts.get(name)
        if found is None:
            raise _no_policy(name, state)
        made: PolicyModel = {"version": state.version, "name": name, "origin": found.origin, "text": found.text}
        return _tagged(call, state, made)

    async def _state(self) -> PolicyState:
        try:
            return self.texts().state()
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    async def history(self, call: ApiCall) -> Response:
        """The last changes, newest first."""
        changes = await self.run(self.texts().history, reads=True)
        items: list[PastPolicyChangeModel] = [
            {"version": one.version, "time": one.time, "who": one.who, "what": one.what, "diff": one.diff} for one in reversed(changes)
        ]
        made: PolicyHistoryModel = {"items": items[: call.limit], "next": None}
        return _json(made)

    async def check(self, call: ApiCall) -> Response:
        """What is wrong with changes, without making them."""
        given = await read_body(call, ChangesModel)
        found = await self.run(lambda: self.texts().remarks(given.changes, replace_all=given.replace_all), reads=True)
        problems, warnings = [[_problem(one) for one in found if (one.severity == "error") is wrong] for wrong in (True, False)]
        made: CheckedModel = {"good": not problems, "problems": problems, "warnings": warnings}
        return _json(made)

    async def put(self, call: ApiCall) -> Response:
        """Set one policy."""
        expected = self.expected(call)
        name = _name(call.path["name"])
        if call.media_type == "text/plain":
            text = text_of(await call.body())
        else:
            text = (await read_body(call, PolicyTextModel, "text/plain or application/json")).text
        return await self._change(call, {name: text}, expected)

    async def delete(self, call: ApiCall) -> Response:
        """Remove one policy."""
        expected = self.expected(call)
        name = call.path["name"]
        state = await self._state()
        if name not in state.texts:
            raise _no_policy(name, state)
        return await self._change(call, {name: None}, expected)

    async def patch(self, call: ApiCall) -> Response:
        """Set and remove several policies at once."""
        expected = self.expected(call)
        given = await read_body(call, ChangesModel)
        return await self._change(call, given.changes, expected, replace_all=given.replace_all)

    async def _change(
        self, call: ApiCall, changes: Mapping[str, str | None], expected: str | None, *, replace_all: bool = False
    ) -> Response:
        texts, who = self.texts(), call.peer.name
        return _made(await self.run(lambda: texts.change(changes, who=who, replace_all=replace_all, expected_version=expected)))

    async def reset(self, call: ApiCall) -> Response:
        """Forget what was changed at run time."""
        expected = self.expected(call)
        texts, who = self.texts(), call.peer.name
        return _made(await self.run(lambda: texts.reset(who=who, expected_version=expected)))

    async def roll_back(self, call: ApiCall) -> Response:
        """Go back to an earlier version."""
        expected = self.expected(call)
        version = (await read_body(call, VersionModel)).version
        texts, who = self.texts(), call.peer.name
        return _made(await self.run(lambda: texts.roll_back(version, who=who, expected_version=expected)))

    def expected(self, call: ApiCall) -> str | None:
        """The version that the client has seen; None when it says that any will do. Raises `ProblemError` when it says nothing."""
        header = call.request.headers.get("if-match", "").strip()
        if not header:
            hint = "send `If-Match` with the ETag of what you have seen, or `If-Match: *` to change whatever is there"
            raise ProblemError(428, "a change must say which version of the policies it changes", hint)
        if header == "*":
            return None
        # A weak tag never matches, and of several at most one is in force: that one, or any for the message.
        tags = [tag.strip() for tag in header.split(",")]
        versions = [tag[1:-1] for tag in tags if len(tag) > 2 and tag[0] == tag[-1] == '"']
        current = self.texts().state().version
        return current if current in versions else (versions[0] if versions else header)


def _made(state: PolicyState) -> Response:
    made: ChangedModel = {"version": state.version, "names": list(state.texts)}
    return _json(made, {"etag": _tag(state.version)})


def _tagged(call: ApiCall, state: PolicyState, content: Mapping[str, Any]) -> Response:
    tag = _tag(state.version)
    if tag in [one.strip().removeprefix("W/") for one in call.request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"etag": tag})
    return _json(content, {"etag": tag})


def _tag(version: str) -> str:
    return f'"{version}"'


def _json(content: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_text(content), media_type="application/json", headers={"cache-control": "no-cache", **(headers or {})})


def _no_policy(name: str, state: PolicyState) -> ProblemError:
    return ProblemError(404, f"there is no policy {printable(name)}", f"there are: {', '.join(state.texts)[:1000] or 'none'}")


def _problem(problem: PolicyProblem) -> PolicyProblemModel:
    return {
        "name": problem.name,
        "line": problem.line,
        "column": problem.column,
        "kind": problem.kind,
        "message": problem.message,
        "severity": "error" if problem.severity == "error" else "warning",
        "hint": problem.hint,
    }


def _name(name: str) -> str:
    if (wrong := _wrong_name(name)) is not None:
        raise ProblemError(400, *wrong)
    return name


def _wrong_name(name: str) -> tuple[str, str] | None:
    """What is wrong with a name, and what would do; None where nothing is."""
    if 1 <= len(name) <= LONGEST_NAME and name.isprintable() and "/" not in name and name == name.strip():
        return None
    return f"{printable(name)!r} is no name of a policy", f"1 to {LONGEST_NAME} printable characters, no slash, no blank around"
