"""Policies through the API: read, checked and changed, by who has seen the version that they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext, StrictModel, printable
from mom_daemon import described, json_text, told
from mom_kvm import PolicyChange, PolicyConflict, PolicyProblem, PolicyRefused, PolicyState, PolicyTexts
from mom_plugins_http.routes.answers import Items, as_object, offered
from mom_plugins_http.routes.bodies import JSON, read_body, text_of
from mom_plugins_http.routes.route import LIMIT, ApiCall, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker

Result = TypeVar("Result")

LONGEST_NAME: Final = 128
"""Characters of a policy's name."""

MOST_JOBS: Final = 64
"""Changes, and checks, that may wait for each other; a compilation takes some hundredths of a second, the largest ones seconds."""

_AGAIN: Final = "look at what they are now, and decide again"


def _named(changes: dict[str, str | None]) -> dict[str, str | None]:
    for name in changes:
        _check_name(name)
    return changes


ChangedTexts = Annotated[
    dict[str, Annotated[str | None, Field(description="The text to set; null removes the policy.")]], AfterValidator(_named)
]
"""Texts to set, and policies to remove, by the policy's name."""


class ChangesModel(StrictModel):
    """Changes of several policies, all or none."""

    changes: ChangedTexts
    replace_all: bool = False
    """Remove all other policies, those from files too."""


class PolicyTextModel(StrictModel):
    """A policy."""

    text: str


class VersionModel(StrictModel):
    """The version that is wanted."""

    version: str
    """As `GET /v1/policy-history` lists them."""


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
class CheckedModel(TypedDict):
    """Mistakes in changes."""

    good: bool
    """The changes could be made: there may be warnings."""
    problems: list[PolicyProblem]
    warnings: list[PolicyProblem]


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
        all_, one, changed, change = "/v1/policies", "/v1/policies/{name}", ChangedModel, Right.CHANGE
        changes, version = {JSON: ChangesModel}, {JSON: VersionModel}
        text = {"text/plain": str, JSON: PolicyTextModel}
        return [
            Route("GET", all_, self.policies, PoliciesModel),
            Route("PATCH", all_, self.change_policies, changed, change, body=changes, versioned=True),
            Route("POST", "/v1/policy-check", self.check_policies, CheckedModel, body=changes),
            Route("POST", "/v1/policy-reset", self.reset_policies, changed, change, versioned=True),
            Route("POST", "/v1/policy-rollback", self.roll_back_policies, changed, change, body=version, versioned=True),
            Route("GET", "/v1/policy-history", self.policy_history, Items[PolicyChange], parameters=(LIMIT,)),
            Route("GET", one, self.policy, PolicyModel),
            Route("PUT", one, self.set_policy, changed, change, body=text, versioned=True),
            Route("DELETE", one, self.remove_policy, changed, change, versioned=True),
        ]

    def texts(self) -> PolicyTexts:
        """The evaluator's. Raises `ProblemError` when there is none."""
        return offered(self._context, PolicyTexts, "has policies", "policy")

    async def run(self, job: Callable[[PolicyTexts], Result]) -> Result:
        """Have policies changed, in its turn: those that are in force then. Raises `ProblemError`."""

        def change() -> Result:
            texts = self.texts()
            made = job(texts)
            if self._context.service(PolicyTexts) is not texts:
                raise ProblemError(409, "mom took another configuration meanwhile: whether this is in force is not known", _AGAIN)
            return made

        try:
            return await self._worker.run(change)
        except PolicyRefused as error:
            more = {"problems": as_object(error.problems)}
            raise ProblemError(422, "the policies cannot be used; nothing has changed", error.hint, more=more) from None
        except PolicyConflict as error:
            raise ProblemError(412, error.message, _AGAIN, more={"version": error.version}, headers={"etag": _tag(error.version)}) from None

    async def policies(self, call: ApiCall) -> Response:
        """All policies in force; the ETag is their version."""
        state = self.texts().state()
        items = [told(ListedPolicyModel, text, name=name) for name, text in state.texts.items()]
        made: PoliciesModel = {"version": state.version, "items": items}
        return _tagged(call, state, made)

    async def policy(self, call: ApiCall) -> Response:
        """One policy."""
        state, name = self.texts().state(), call.path["name"]
        found = state.texts.get(name)
        if found is None:
            raise _no_policy(name, state)
        made: PolicyModel = {"version": state.version, "name": name, "origin": found.origin, "text": found.text}
        return _tagged(call, state, made)

    async def policy_history(self, call: ApiCall) -> Items[PolicyChange]:
        """The last changes, newest first, with who, when and what."""
        changes = await self._reading.run(self.texts().history, call.peer.user)
        return {"items": as_object(changes[::-1][: call.number(LIMIT)])}

    async def check_policies(self, call: ApiCall) -> CheckedModel:
        """Say what is wrong with changes, without making them."""
        given = await read_body(call, ChangesModel)
        found = await self._reading.run(lambda: self.texts().remarks(given.changes, replace_all=given.replace_all), call.peer.user)
        problems, warnings = [[as_object(one) for one in found if (one.severity == "error") is wrong] for wrong in (True, False)]
        return {"good": not problems, "problems": problems, "warnings": warnings}

    async def set_policy(self, call: ApiCall) -> Response:
        """Set one policy."""
        expected, name = self.expected(call), call.path["name"]
        _check_name(name)
        if call.media_type == "text/plain":
            text = text_of(await call.body())
        else:
            text = (await read_body(call, PolicyTextModel, "text/plain or application/json")).text
        return await self._change(call, {name: text}, expected)

    async def remove_policy(self, call: ApiCall) -> Response:
        """Remove one policy."""
        expected, name = self.expected(call), call.path["name"]
        state = self.texts().state()
        if name not in state.texts:
            raise _no_policy(name, state)
        return await self._change(call, {name: None}, expected)

    async def change_policies(self, call: ApiCall) -> Response:
        """Set and remove several policies, all or none."""
        expected = self.expected(call)
        given = await read_body(call, ChangesModel)
        return await self._change(call, given.changes, expected, replace_all=given.replace_all)

    async def _change(
        self, call: ApiCall, changes: Mapping[str, str | None], expected: str | None, *, replace_all: bool = False
    ) -> Response:
        who = call.peer.name
        return _made(await self.run(lambda texts: texts.change(changes, who=who, replace_all=replace_all, expected_version=expected)))

    async def reset_policies(self, call: ApiCall) -> Response:
        """Forget what was changed at run time; read the files again."""
        expected = self.expected(call)
        return _made(await self.run(lambda texts: texts.reset(who=call.peer.name, expected_version=expected)))

    async def roll_back_policies(self, call: ApiCall) -> Response:
        """Make the policies what they were in an earlier version."""
        expected = self.expected(call)
        version = (await read_body(call, VersionModel)).version
        return _made(await self.run(lambda texts: texts.roll_back(version, who=call.peer.name, expected_version=expected)))

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


def _check_name(name: str) -> None:
    """Raises `ProblemError` for what is no policy's name."""
    if not (1 <= len(name) <= LONGEST_NAME and name.isprintable() and "/" not in name and name == name.strip()):
        hint = f"1 to {LONGEST_NAME} printable characters, no slash, no blank around"
        raise ProblemError(400, f"{printable(name)!r} is no name of a policy", hint)
