"""Policies through the API: read, checked and changed, by who has seen the version that they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from starlette.responses import Response

from mom_core import MomError, PluginContext, UnitError, Value, printable
from mom_plugins_http.bodies import object_body, text_of
from mom_plugins_http.json_text import encoded
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall
from mom_plugins_http.server import Worker
from mom_toolkit import CanaryPolicies, CheckedPolicies, PolicyConflict, PolicyProblem, PolicyRefused, PolicyState, PolicyTexts

Result = TypeVar("Result")

LONGEST_NAME: Final = 128
"""Characters of a policy's name."""

MOST_JOBS: Final = 64
"""Changes and checks that may wait for each other; a compilation takes some hundredths of a second, the largest ones seconds."""

_AGAIN: Final = "look at what they are now, and decide again"


class PolicyRoutes:
    """Everything about policies. What compiles runs in a thread of its own; the evaluator makes each change as a whole."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def texts(self) -> PolicyTexts:
        """The evaluator's. Raises `ProblemError` when there is none."""
        texts = self._context.service(PolicyTexts)
        if texts is None:
            raise ProblemError(409, "no enabled plugin has policies", "enable the plugin policy in the configuration")
        return texts

    def canaries(self) -> CanaryPolicies:
        """The evaluator's, to be tried on some guests. Raises `ProblemError` when it cannot do that."""
        self.texts()  # where there are no policies at all, that is what to say
        texts = self._context.service(CanaryPolicies)
        if texts is None:
            raise ProblemError(409, "the enabled evaluator cannot try policies on some guests", "set them for all, or use another one")
        return texts

    async def run(self, job: Callable[[], Result]) -> Result:
        """Have something done that takes its time, in its turn. Raises `ProblemError` for what it raises."""
        if self._worker.full:
            raise ProblemError(503, "too many changes and checks of policies wait", "ask again in a moment", headers={"retry-after": "1"})
        try:
            return await self._worker.run(job)
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
        items = [{"name": name, "origin": text.origin, "text": text.text} for name, text in state.texts.items()]
        return _tagged(call, state, {"version": state.version, "items": items})

    async def policy(self, call: ApiCall) -> Response:
        """One policy."""
        state = await self._state()
        name = call.path["name"]
        found = state.texts.get(name)
        if found is None:
            raise _no_policy(name, state)
        return _tagged(call, state, {"version": state.version, "name": name, "origin": found.origin, "text": found.text})

    async def _state(self) -> PolicyState:
        try:
            return self.texts().state()
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    async def history(self, call: ApiCall) -> Response:
        """The last changes, newest first."""
        changes = await self.run(self.texts().history)
        items = [
            {"version": one.version, "time": one.time, "who": one.who, "what": one.what, "diff": one.diff} for one in reversed(changes)
        ]
        return _json({"items": items[: call.limit], "next": None})

    async def check(self, call: ApiCall) -> Response:
        """What is wrong with changes, without making them."""
        changes, replace_all = await _changes(call)
        checked = self._context.service(CheckedPolicies)  # an evaluator that looks for more than what it refuses
        look = self.texts().check if checked is None else checked.remarks
        found = await self.run(lambda: look(changes, replace_all=replace_all))
        problems, warnings = [[_problem(one) for one in found if (one.severity == "error") is wrong] for wrong in (True, False)]
        return _json({"good": not problems, "problems": problems, "warnings": warnings})

    async def put(self, call: ApiCall) -> Response:
        """Set one policy."""
        expected = self.expected(call)
        name = _name(call.path["name"])
        if call.media_type == "text/plain":
            text = text_of(await call.body())
        else:
            given = await object_body(call, {"text"}, "text/plain or application/json")
            if not isinstance(given.get("text"), str):
                raise ProblemError(400, "`text` must be the policy's text", 'send {"text": "…"}, or the text itself as text/plain')
            text = str(given["text"])
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
        changes, replace_all = await _changes(call)
        return await self._change(call, changes, expected, replace_all=replace_all)

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
        given = await object_body(call, {"version"})
        version = given.get("version")
        if not isinstance(version, str):
            raise ProblemError(400, "`version` must be a version that the history has", "GET /v1/policy-history lists them")
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
    names: list[Value] = list(state.texts)
    return _json({"version": state.version, "names": names}, {"etag": _tag(state.version)})


def _tagged(call: ApiCall, state: PolicyState, content: Mapping[str, object]) -> Response:
    tag = _tag(state.version)
    if tag in [one.strip().removeprefix("W/") for one in call.request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"etag": tag})
    return _json(content, {"etag": tag})


def _tag(version: str) -> str:
    return f'"{version}"'


def _json(content: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(content), media_type="application/json", headers={"cache-control": "no-cache", **(headers or {})})


def _no_policy(name: str, state: PolicyState) -> ProblemError:
    return ProblemError(404, f"there is no policy {printable(name)}", f"there are: {', '.join(state.texts)[:1000] or 'none'}")


def _problem(problem: PolicyProblem) -> dict[str, Value]:
    return {
        "name": problem.name,
        "line": problem.line,
        "column": problem.column,
        "kind": problem.kind,
        "message": problem.message,
        "severity": problem.severity,
        "hint": problem.hint,
    }


def _name(name: str) -> str:
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or "/" in name or name != name.strip():
        raise ProblemError(
            400, f"{printable(name)!r} is no name of a policy", f"1 to {LONGEST_NAME} printable characters, no slash, no blank around"
        )
    return name


async def _changes(call: ApiCall) -> tuple[dict[str, str | None], bool]:
    given = await object_body(call, {"changes", "replace_all"})
    replace_all = given.get("replace_all", False)
    changes = checked_changes(given.get("changes"))
    if not isinstance(replace_all, bool):
        raise ProblemError(400, "`replace_all` must be true or false", "leave it out to keep all other policies")
    return changes, replace_all


def checked_changes(changes: object) -> dict[str, str | None]:
    """What is to be set and removed, as a client gives it. Raises `ProblemError`."""
    if not isinstance(changes, dict) or not all(text is None or isinstance(text, str) for text in changes.values()):
        raise ProblemError(
            400, "`changes` must be an object: policy names to texts, or null to remove one", 'such as {"changes": {"50_mine": "…"}}'
        )
    for name in changes:
        _name(name)
    return changes
