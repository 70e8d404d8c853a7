"""The table of all operations, and the application that answers them: who may, what is asked, and what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute

from mom_core import PluginContext, Value, printable
from mom_plugins_http import events
from mom_plugins_http.access import Peer, Right, Tokens
from mom_plugins_http.admission_routes import CLASS, COUNT, MEMORY, AdmissionRoutes
from mom_plugins_http.answers_in_pieces import PIECE, Sending
from mom_plugins_http.canary_routes import CanaryRoutes
from mom_plugins_http.events import Events
from mom_plugins_http.json_text import encoded
from mom_plugins_http.log_levels import LogLevels
from mom_plugins_http.openapi import description
from mom_plugins_http.page import WebPage
from mom_plugins_http.page_keys import PageKeys
from mom_plugins_http.policy_routes import PolicyRoutes
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.protocol import UNKNOWN_PEER, ClientLimits
from mom_plugins_http.refusals import RefusalLog
from mom_plugins_http.report_routes import ReportRoutes
from mom_plugins_http.reservation_routes import ReservationRoutes
from mom_plugins_http.routes import AFTER, FIELD, FIELDS, GUEST, LIMIT, MOST_ARRIVING, POINTS, ApiCall, Parameter, Route
from mom_plugins_http.sites import LOCAL_NAMES, TOOL_NAME, same_site, same_site_locally
from mom_toolkit import HeldBytes

_POLICY_BODY: Final[Mapping[str, Value]] = {"text/plain": {"type": "string"}, "application/json": "PolicyText"}


def routes(
    reports: ReportRoutes,
    policies: PolicyRoutes,
    reservations: ReservationRoutes,
    admission: AdmissionRoutes,
    listening: Events,
    describe: Callable[[ApiCall], Awaitable[Response]],
) -> list[Route]:
    """All operations: the one table from which the application and its description are made."""
    canary = CanaryRoutes(policies)
    listed, page = (LIMIT, AFTER), (LIMIT, AFTER, GUEST)
    version = Parameter("limit", "How many changes to list.", "integer", 1, 50, 50)
    return [
        Route(
            "GET",
            "/",
            "page",
            "The web page, which asks the rest for what it shows.",
            WebPage().show,
            {"type": "string"},
            Right.NOTHING,
            media_type="text/html",
        ),
        Route("GET", "/v1/whoami", "whoami", "Who the client is to mom, and what it may do.", reports.whoami, "Client"),
        Route("GET", "/v1/openapi.json", "describe", "This description.", describe, {"type": "object"}),
        Route("GET", "/v1/status", "status", "How mom is: its mode, its last cycle, its plugins.", reports.status, "Status"),
        Route("GET", "/v1/plugins", "plugins", "How each plugin is, and how long its hooks took.", reports.plugins, "Plugins"),
        Route(
            "GET",
            "/v1/configuration",
            "configuration",
            "The settings in force; secrets are masked.",
            reports.configuration,
            {"type": "object"},
        ),
        Route("GET", "/v1/fields", "fields", "What is collected, with units.", reports.fields, "Fields", parameters=listed),
        Route(
            "GET", "/v1/controls", "controls", "What can be set, with units and bounds.", reports.controls, "Controls", parameters=listed
        ),
        Route("GET", "/v1/host", "host", "The host as it was in the last cycle.", reports.host, "Host"),
        Route(
            "GET",
            "/v1/host/history",
            "hostHistory",
            "The host in past cycles, newest first.",
            reports.host_history,
            "HostHistory",
            parameters=listed,
        ),
        Route(
            "GET",
            "/v1/guests",
            "guests",
            "All guests, in the order of their names.",
            reports.guests,
            "Guests",
            parameters=(*listed, FIELDS),
        ),
        Route(
            "GET",
            "/v1/guest-histories",
            "guestHistories",
            "One field of all guests in the last cycles, oldest first.",
            reports.guest_histories,
            "GuestHistories",
            parameters=(FIELD, POINTS),
        ),
        Route(
            "GET",
            "/v1/guests/{guest}",
            "guest",
            "One guest by id or name, with what was decided for it.",
            reports.guest,
            "GuestWithDecisions",
        ),
        Route(
            "GET",
            "/v1/guests/{guest}/explanation",
            "guestExplanation",
            "Why a guest has the size that it has, in numbers and in sentences.",
            reports.explanation,
            "Explanation",
        ),
        Route(
            "GET",
            "/v1/guests/{guest}/history",
            "guestHistory",
            "One guest in past cycles, newest first.",
            reports.guest_history,
            "GuestHistory",
            parameters=listed,
        ),
        Route(
            "GET",
            "/v1/decisions",
            "decisions",
            "What evaluators wanted in the last cycle.",
            reports.decisions,
            "Decisions",
            parameters=page,
        ),
        Route("GET", "/v1/revisions", "revisions", "What review changed or dropped.", reports.revisions, "Revisions", parameters=page),
        Route("GET", "/v1/outcomes", "outcomes", "What came of the decisions.", reports.outcomes, "Outcomes", parameters=page),
        Route(
            "GET",
            "/v1/recent-outcomes",
            "recentOutcomes",
            "What came of decisions in past cycles, newest first, without what stood so already; 100 of each cycle, 1,000 in all.",
            reports.recent_outcomes,
            "RecentOutcomes",
            parameters=(LIMIT, GUEST),
        ),
        Route("GET", "/v1/problems", "problems", "What is wrong, and since when.", reports.problems, "Problems", parameters=page),
        Route(
            "GET",
            "/v1/common-problems",
            "commonProblems",
            "What is wrong, each thing once for all guests that have it.",
            reports.common_problems,
            "CommonProblems",
            parameters=page,
        ),
        Route(
            "GET", "/v1/trial", "trial", "How policies on trial differ from those in force.", reports.trial, "Differences", parameters=page
        ),
        Route(
            "GET",
            "/v1/events",
            "events",
            "An event for each cycle, as it ends.",
            listening.listen,
            {"type": "string"},
            media_type=events.MEDIA_TYPE,
        ),
        Route("GET", "/metrics", "metrics", "Metrics for Prometheus.", reports.metrics, {"type": "string"}, media_type="text/plain"),
        Route("GET", "/v1/policies", "policies", "All policies in force; the ETag is their version.", policies.policies, "Policies"),
        Route(
            "PATCH",
            "/v1/policies",
            "changePolicies",
            "Set and remove several policies, all or none.",
            policies.patch,
            "Changed",
            Right.CHANGE,
            body={"application/json": "Changes"},
            versioned=True,
        ),
        Route(
            "POST",
            "/v1/policy-check",
            "checkPolicies",
            "Say what is wrong with changes, without making them.",
            policies.check,
            "Checked",
            body={"application/json": "Changes"},
        ),
        Route(
            "POST",
            "/v1/policy-reset",
            "resetPolicies",
            "Forget what was changed at run time; read the files again.",
            policies.reset,
            "Changed",
            Right.CHANGE,
            versioned=True,
        ),
        Route(
            "POST",
            "/v1/policy-rollback",
            "rollBackPolicies",
            "Make the policies what they were in an earlier version.",
            policies.roll_back,
            "Changed",
            Right.CHANGE,
            body={"application/json": "Version"},
            versioned=True,
        ),
        Route(
            "GET",
            "/v1/policy-history",
            "policyHistory",
            "The last changes, newest first, with who, when and what.",
            policies.history,
            "PolicyHistory",
            parameters=(version,),
        ),
        Route("GET", "/v1/policies/{name}", "policy", "One policy.", policies.policy, "Policy"),
        Route(
            "PUT",
            "/v1/policies/{name}",
            "setPolicy",
            "Set one policy.",
            policies.put,
            "Changed",
            Right.CHANGE,
            body=_POLICY_BODY,
            versioned=True,
        ),
        Route(
            "DELETE", "/v1/policies/{name}", "removePolicy", "Remove one policy.", policies.delete, "Changed", Right.CHANGE, versioned=True
        ),
        Route(
            "GET",
            "/v1/admission",
            "admission",
            "Whether more guests fit without breaking a promise, and what would have to give.",
            admission.answer,
            "Admission",
            parameters=(MEMORY, CLASS, COUNT),
        ),
        Route(
            "GET",
            "/v1/reservations",
            "reservations",
            "What is reserved for launches, and what could be.",
            reservations.all,
            "Reservations",
        ),
        Route(
            "POST",
            "/v1/reservations",
            "reserve",
            "Have memory made and kept for a launch; 409 at once with all figures when it cannot be had.",
            reservations.make,
            "Reservation",
            Right.CHANGE,
            body={"application/json": "Wanted"},
            status=201,
        ),
        Route(
            "GET",
            "/v1/reservations/{id}",
            "reservation",
            "One reservation, also one that has ended lately.",
            reservations.one,
            "Reservation",
        ),
        Route(
            "DELETE",
            "/v1/reservations/{id}",
            "releaseReservation",
            "Give a reservation up.",
            reservations.release,
            "Reservation",
            Right.CHANGE,
        ),
        *_canary_routes(canary),
    ]


def _canary_routes(canary: CanaryRoutes) -> list[Route]:
    path, answer, change = "/v1/policy-canary", "CanaryAnswer", Right.CHANGE
    begin = "Try policies on some guests; they go into force for all, or for none, by themselves."
    end, promote = "End the trial; nothing changes.", "Put what is tried in force for all guests now."
    body: Mapping[str, Value] = {"application/json": "Trial"}
    return [
        Route("GET", path, "canary", "The trial of policies that runs, or the last one.", canary.current, answer),
        Route("POST", path, "beginCanary", begin, canary.begin, answer, change, body=body, versioned=True, status=201),
        Route("DELETE", path, "abortCanary", end, canary.abort, answer, change, versioned=True),
        Route("POST", f"{path}/promotion", "promoteCanary", promote, canary.promote, answer, change, versioned=True),
    ]


class Api:
    """The application.

    :param tokens: who may do what through TCP; None where TCP is off
    :param hosts: the names by which TCP clients may call this server
    :param page_socket: the path of the page's own socket; empty where there is none
    """

    def __init__(
        self,
        context: PluginContext,
        reports: ReportRoutes,
        policies: PolicyRoutes,
        reservations: ReservationRoutes,
        admission: AdmissionRoutes,
        listening: Events,
        limits: ClientLimits,
        hosts: Sequence[str] = (),
        page_socket: str = "",
    ) -> None:
        self.tokens: Tokens | None = None
        """Replaced when the files are read again."""
        self._context = context
        self._limits = limits
        self._hosts = hosts
        self._reports = reports
        self._refusals = RefusalLog(context.log)
        self._page_keys = PageKeys(page_socket)
        self._arriving, self._unread = HeldBytes(MOST_ARRIVING), HeldBytes()
        self.routes = [
            *routes(reports, policies, reservations, admission, listening, self._describe),
            *LogLevels(context).routes(),
            *self._page_keys.routes(),
        ]
        by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        made = [StarletteRoute(path, self._endpoint(methods), methods=list(methods)) for path, methods in by_path.items()]
        self.application = Starlette(routes=made, exception_handlers={HTTPException: self._no_route, ProblemError: self._problem})
        self.application.router.redirect_slashes = False

    def _endpoint(self, methods: Mapping[str, Route]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self._answer(methods["GET" if request.method == "HEAD" else request.method], request)

        return endpoint

    async def _answer(self, route: Route, request: Request) -> Response:
        try:
            peer = self._admit(request, route)
            query = route.query(request.url.query)
            call = ApiCall(request, peer, query, self._limits.body, self._limits.patience, self._arriving)
            try:
                return self._in_pieces(await route.run(call), request)
            finally:
                self._arriving.end(call.arriving)
        except ProblemError as error:
            return error.response()
        except Exception:  # a mistake of ours must not take the server along, nor tell a client how mom is made
            self._context.log.exception("%s %s failed", route.method, route.path)
            return ProblemError(500, "mom made a mistake while it answered", "mom's log says more; please report it").response()

    def _in_pieces(self, made: Response, request: Request) -> Response:
        """A large answer as one that goes out as fast as the client reads, and counts among those that are unread."""
        if isinstance(made, StreamingResponse) or len(made.body) <= PIECE:
            return made
        return Sending(made, self._unread, request.scope["state"]["end_connection"])

    # --- who may ---------------------------------------------------------------------------------------------------------------------

    def _admit(self, request: Request, route: Route) -> Peer:
        peer: Peer = request.scope.get("state", {}).get("peer", UNKNOWN_PEER)
        self._refuse_other_sites(request, route, peer)
        if peer.keyed and route.right is not Right.NOTHING:
            peer = self._known_by_session(request, peer)
        elif not peer.local and route.right is not Right.NOTHING:
            peer = self._known_by_token(request, peer)
        if peer.right >= route.right:
            return peer
        self._refusals.note(peer.name, f"{route.method} {route.path}", peer=peer.name.partition(",")[0])
        raise ProblemError(403, f"{peer.name} may not do this", self._needed(route.right, local=peer.local))

    def _refuse_other_sites(self, request: Request, route: Route, peer: Peer) -> None:
        headers = request.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if peer.local:
            opens_page = route.name == "page"
            good = same_site_locally(host, origin, headers.get("sec-fetch-site"), opens_page=opens_page)
            hint = f"call it by one of these names: {', '.join(LOCAL_NAMES)}; without a browser, also by {TOOL_NAME}"
        else:
            good = same_site(host, origin, self._hosts)
            hint = f"call it by one of its names: {', '.join(self._hosts)}; `hosts` of the plugin http adds others"
        if not good:
            why = "a request that is meant for another site, or was sent by one"
            self._refusals.note(peer.name, why, peer=peer.name.partition(",")[0])
            raise ProblemError(403, "this request is meant for another site, or was sent by one", hint)

    def _known_by_token(self, request: Request, peer: Peer) -> Peer:
        headers = request.headers
        given = headers.get("authorization", "")
        right = Right.NOTHING if self.tokens is None else self.tokens.right(given)
        if right is Right.NOTHING:
            if given:
                self._refusals.note(peer.name, "a token that is not known")
            else:  # as the web page asks first, to see whether it needs one
                self._refusals.note(peer.name, "a request without a token", logging.INFO)
            hint = "send `Authorization: Bearer TOKEN` with one of the tokens that the plugin http is configured with"
            raise ProblemError(401, "no token that is known came with the request", hint, headers={"www-authenticate": "Bearer"})
        return replace(peer, name=f"token to {right.name.lower()} from {peer.name}", right=right)

    def _known_by_session(self, request: Request, peer: Peer) -> Peer:
        given = request.headers.get("authorization", "")
        session = self._page_keys.session(given)
        if session is None:
            level = logging.WARNING if given else logging.INFO
            why = "a session of the page that is not known" if given else "a request without a session of the page"
            self._refusals.note(peer.name, why, level, peer=peer.name.partition(",")[0])
            hint = "open the address that `mom page` prints on the host"
            raise ProblemError(401, "no session of the page came with the request", hint, headers={"www-authenticate": "Bearer"})
        right, who = session
        return replace(peer, name=f"the page of {who}", right=right)

    def _needed(self, right: Right, *, local: bool) -> str:
        if not local:
            return "it needs the token to change (`change_token`)"
        what = "read_group or change_group" if right is Right.READ else "change_group"
        return f"root may, and members of the group that `{what}` of the plugin http names; a new member must log in again"

    # --- what else -------------------------------------------------------------------------------------------------------------------

    async def _describe(self, call: ApiCall) -> Response:
        declarations = self._context.declarations
        return Response(encoded(description(self.routes, declarations)), media_type="application/json")

    async def _no_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
        where = printable(request.url.path)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return ProblemError(
                405, f"{printable(request.method)} makes no sense here", f"use {allowed}", headers={"allow": allowed}
            ).response()
        return ProblemError(error.status_code, f"there is nothing at {where}", "GET /v1/openapi.json describes all there is").response()

    async def _problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101  # it is registered for these
        return error.response()
