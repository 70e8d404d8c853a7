"""Operations on policies. A change names the version that the client has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field
from starlette.responses import Response
from typing_extensions import TypedDict

from mom_core import PluginContext, StrictModel, printable
from mom_daemon import json_text
from mom_daemon.report_models import described, told
from mom_kvm import PolicyProblem, PolicyState, PolicyTexts
from mom_plugins_http.routes.published import Items, as_object, offered
from mom_plugins_http.routes.route import JSON, ApiCall, LimitQuery, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker

Result = TypeVar("Result")

LONGEST_NAME: Final = 128

_AGAIN: Final = "read the present policies, and decide again"


def _named(changes: dict[str, str | None]) -> dict[str, str | None]:
    for name in changes:
        if not (1 <= len(name) <= LONGEST_NAME and name.isprintable() and "/" not in name and name == name.strip()):
            hint = f"1 to {LONGEST_NAME} printable characters, no slash, no blank at the start or end"
            raise ProblemError(400, f"{printable(name)!r} is not a valid name of a policy", hint)
    return changes


ChangedTexts = Annotated[
    dict[str, Annotated[str | None, Field(description="The text to set; null removes the policy.")]], AfterValidator(_named)
]
"""Policies to set or remove, keyed by name."""


class ChangesModel(StrictModel):
    """Changes of several policies, all or none."""

    changes: ChangedTexts
    replace_all: bool = False
    """Remove all other policies, including those from files."""


class VersionModel(StrictModel):
    """Version to restore."""

    version: str
    """A version from `GET /v1/policy-history`."""


class ListedPolicyModel(TypedDict):
    """Policy in force."""

    name: str
    origin: str
    text: str


class PoliciesModel(TypedDict):
    """All policies in force."""

    version: str
    items: list[ListedPolicyModel]


class PolicyModel(ListedPolicyModel):
    """Policy, with the version of all policies."""

    version: str


class ChangedModel(TypedDict):
    """Policies after a change."""

    version: str
    names: list[str]


@described
class CheckedModel(TypedDict):
    """Result of a check."""

    good: bool
    """Whether mom would accept the changes, perhaps with warnings."""
    problems: list[PolicyProblem]
    warnings: list[PolicyProblem]


class PolicyRoutes:
    """Operations on policies. Each change is atomic."""

    def __init__(self, context: PluginContext, worker: Worker, reading: Worker) -> None:
        self._context = context
        self._worker = worker
        self._reading = reading

    def texts(self) -> PolicyTexts:
        """Return the service for policies. Raise `ProblemError` if no plugin offers it."""
        return offered(self._context, PolicyTexts, "has policies", "policy")

    async def run(self, job: Callable[[PolicyTexts], Result]) -> Result:
        """Run a change after all earlier changes, and return its result."""

        def change() -> Result:
            texts = self.texts()
            result = job(texts)
            if self._context.service(PolicyTexts) is not texts:
                raise ProblemError(409, "mom was reloaded meanwhile: this change may or may not be in force", _AGAIN)
            return result

        try:
            return await self._worker.run(change)
        except PolicyState.Refused as error:
            more = {"problems": as_object(error.problems)}
            raise ProblemError(422, "the policies cannot be used; nothing has changed", error.hint, more=more) from None
        except PolicyState.Conflict as error:
            raise ProblemError(412, error.message, _AGAIN, more={"version": error.version}, headers={"etag": _tag(error.version)}) from None

    @Route("GET", "/v1/policies", PoliciesModel)
    async def policies(self, call: ApiCall) -> Response:
        """List the policies in force; the ETag is their version."""
        state = self.texts().state()
        items = [told(ListedPolicyModel, text, name=name) for name, text in state.texts.items()]
        policies: PoliciesModel = {"version": state.version, "items": items}
        return _tagged(state, policies)

    @Route("PATCH", "/v1/policies", ChangedModel, Right.CHANGE, body={JSON: ChangesModel}, versioned=True)
    async def change_policies(self, call: ApiCall) -> Response:
        """Set and remove several policies, all or none."""
        more: Any = {"who": call.peer.name, "expected_version": self.expected(call)}
        body = await call.content(ChangesModel)
        return _changed(await self.run(lambda texts: texts.change(body.changes, replace_all=body.replace_all, **more)))

    @Route("POST", "/v1/policy-check", CheckedModel, body={JSON: ChangesModel})
    async def check_policies(self, call: ApiCall) -> CheckedModel:
        """Check changes without making them."""
        body = await call.content(ChangesModel)
        remarks = await self._reading.run(lambda: self.texts().remarks(body.changes, replace_all=body.replace_all), call.peer.user)
        problems, warnings = [[as_object(each) for each in remarks if (each.severity == "error") is fatal] for fatal in (True, False)]
        return {"good": not problems, "problems": problems, "warnings": warnings}

    @Route("POST", "/v1/policy-reset", ChangedModel, Right.CHANGE, versioned=True)
    async def reset_policies(self, call: ApiCall) -> Response:
        """Drop all changes made at run time; read the files again."""
        expected = self.expected(call)
        return _changed(await self.run(lambda texts: texts.reset(who=call.peer.name, expected_version=expected)))

    @Route("POST", "/v1/policy-rollback", ChangedModel, Right.CHANGE, body={JSON: VersionModel}, versioned=True)
    async def roll_back_policies(self, call: ApiCall) -> Response:
        """Restore an earlier version of the policies."""
        expected = self.expected(call)
        version = (await call.content(VersionModel)).version
        return _changed(await self.run(lambda texts: texts.roll_back(version, who=call.peer.name, expected_version=expected)))

    @Route("GET", "/v1/policy-history", Items[PolicyState.Change], query=LimitQuery)
    async def policy_history(self, call: ApiCall) -> Items[PolicyState.Change]:
        """List the last changes, newest first: author, time and text."""
        changes = await self._reading.run(self.texts().history, call.peer.user)
        return {"items": as_object(changes[::-1][: call.query.limit])}

    @Route("GET", "/v1/policies/{name}", PolicyModel)
    async def policy(self, call: ApiCall) -> Response:
        """Return one policy."""
        state, name = self.texts().state(), call.path["name"]
        policy = state.texts.get(name)
        if policy is None:
            raise ProblemError(404, f"there is no policy {printable(name)}", f"known policies: {', '.join(state.texts)[:1000] or 'none'}")
        answer: PolicyModel = {"version": state.version, "name": name, "origin": policy.origin, "text": policy.text}
        return _tagged(state, answer)

    def expected(self, call: ApiCall) -> str | None:
        """Return the version in `If-Match`; None for `*`. Raise `ProblemError` without the header."""
        header = call.request.headers.get("if-match", "").strip()
        if not header:
            hint = "send `If-Match` with the ETag of the policies that you read, or `If-Match: *` for any version"
            raise ProblemError(428, "the request does not name the version of the policies that it changes", hint)
        if header == "*":
            return None
        # Only a single strong tag can match.
        return header[1:-1] if len(header) > 2 and header[0] == header[-1] == '"' else header


def _changed(state: PolicyState) -> Response:
    answer: ChangedModel = {"version": state.version, "names": list(state.texts)}
    return _tagged(state, answer)


def _tagged(state: PolicyState, content: Mapping[str, Any]) -> Response:
    headers = {"cache-control": "no-cache", "etag": _tag(state.version)}
    return Response(json_text(content), media_type=JSON, headers=headers)


def _tag(version: str) -> str:
    return f'"{version}"'
