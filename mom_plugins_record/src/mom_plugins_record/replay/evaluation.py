"""The evaluators of a recording, made again: with its settings and its policies or others, and nothing that touches the world."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mom_core import Config, Decision, Declarations, InForce, MomError, PluginContext, Problem, Scope, Snapshot, Source, Value, load_config
from mom_plugins_record.recording.reader import RecordedSession
from mom_plugins_record.replay.installed import guest_rules, installed_plugins
from mom_toolkit import PolicyRefused, PolicyTexts, ReasonedPolicies

WHO: Final = "replay"


@dataclass(frozen=True, slots=True)
class EvaluatedAgain:
    """What the evaluators made of one snapshot."""

    decisions: tuple[Decision, ...]
    problems: tuple[Problem, ...]


_DECIDING: Final = ("mom_evaluate", "mom_act")
"""The hooks that give decisions, in the order in which they are called."""


@dataclass(frozen=True, slots=True)
class _Evaluator:
    name: str
    evaluate: Callable[..., Any]
    takes: frozenset[str]
    texts: PolicyTexts | None
    reasoned: ReasonedPolicies | None
    teardown: Callable[[], None]


class Evaluators:
    """The plugins of a session that decide, in their order, each as when the daemon has just started.

    :param policies: texts by name in place of the recorded ones
    :param only_policies: whether those that decide without policies are left out
    Raises `MomError` when the session has none that is installed here, or when they refuse the policies.

    `left_out` says which of the session's plugins decide something and are not here, and why: what they decided is not compared.
    """

    def __init__(self, session: RecordedSession, policies: Mapping[str, str] | None = None, *, only_policies: bool = False) -> None:
        self.left_out: dict[str, str] = {}
        self._only_policies = only_policies
        self._own_policies = policies
        self._session = session
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mom-replay-")))
            config = self._configuration(session)
            self.history = max(1, config.history - 1)  # as the engine does: older snapshots, beside the one that is evaluated
            self._evaluators: list[_Evaluator] = []
            stack.callback(self._teardown)
            for name in config.plugins:
                self._add(config, name)
            if not self._evaluators:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
                raise MomError(f"nothing that was recorded can be evaluated here: {reasons or 'no plugin decided anything'}")
            self._install(session.policies if policies is None else policies)
            self._stack = stack.pop_all()

    def __enter__(self) -> Evaluators:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the plugins go."""
        self._stack.close()

    def use(self, session: RecordedSession) -> None:
        """From here on, the recording's policies were these."""
        if self._own_policies is None and session.policies != self._session.policies:
            self._install(session.policies)
        self._session = session

    @property
    def memory(self) -> Value:
        """What the policies remember; None when no evaluator has any."""
        return next((e.texts.memory() for e in self._evaluators if e.texts is not None), None)

    def remember(self, memory: Value) -> None:
        """Have the policies remember what they remembered when it was recorded."""
        for evaluator in self._evaluators:
            if evaluator.texts is not None:
                evaluator.texts.set_memory(memory)
                return

    def is_compared(self, decision: Decision) -> bool:
        """Whether a recorded decision came from an evaluator that is here."""
        if decision.source.line > 0:  # of a policy
            return any(evaluator.texts is not None for evaluator in self._evaluators)
        return decision.source.name not in self.left_out

    def evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot]) -> EvaluatedAgain:
        """What they decide now. An evaluator that raises decides nothing, as under the daemon."""
        decisions: list[Decision] = []
        problems: list[Problem] = []
        for evaluator in self._evaluators:
            given = {"snapshot": snapshot, "history": history}
            try:
                items = list(evaluator.evaluate(**{name: value for name, value in given.items() if name in evaluator.takes}) or ())
            except Exception as error:  # noqa: BLE001  # whatever a plugin raises concerns that plugin
                problems.append(Problem(Source(evaluator.name), f"{type(error).__name__}: {error}"))
                continue
            for item in items:
                if isinstance(item, Decision):
                    decisions.append(item)
                elif isinstance(item, Problem) and item.source.line:  # the others are about the host on which this runs
                    problems.append(item)
        return EvaluatedAgain(tuple(decisions), tuple(problems))

    def reason(self, cycle: int, guest: str, control: str) -> str:
        """Why the guest got this control, or did not, in the cycle that was evaluated last; empty where no policy says it."""
        for evaluator in self._evaluators:
            if evaluator.reasoned is not None:
                return evaluator.reasoned.reason(cycle, guest, control)
        return ""

    # --- making them ---------------------------------------------------------------------------------------------------------------

    def _configuration(self, session: RecordedSession) -> Config:
        """The recorded configuration, with those plugins that decide, are installed, and are no hypervisor."""
        installed, left_out = installed_plugins(session.configuration)
        self.left_out.update(left_out)
        plugins: dict[str, Mapping[str, Value]] = {}
        for name, one in installed.items():
            if not any(hasattr(one.plugin_class, hook) for hook in _DECIDING):
                continue
            if hasattr(one.plugin_class, "mom_hypervisor"):
                self.left_out[name] = "it is a hypervisor, and none is used in a replay"
            elif _goes_by_what_it_did(one.plugin_class):
                self.left_out[name] = "it goes by what it did to guests, and nothing is done in a replay"
            else:
                plugins[name] = one.settings
        if not plugins:
            raise MomError(f"no plugin that decided anything is installed here: {', '.join(self.left_out) or 'the recording has none'}")
        document = {
            "interval": session.configuration.get("interval", "5s"),
            "history": session.configuration.get("history", 10),
            "plugins": plugins,
        }
        return load_config({**document, "guests": guest_rules(session.configuration, plugins)})

    def _add(self, config: Config, name: str) -> None:
        session = self._session
        context = PluginContext(
            name=name,
            root=self._folder / "root",
            state_directory=self._folder / "state",
            run_directory=self._folder / "run",
            in_force=InForce(
                Declarations({(spec.scope, spec.name): spec for spec in session.fields}, {spec.name: spec for spec in session.controls}),
                interval=config.interval,
                guest_settings=config.guest_settings(name),
            ),
            serves=False,
        )
        configured = config.plugins[name]
        try:
            plugin: Any = configured.loaded.plugin_class(configured.settings, context)
            offered: Mapping[type, Any] = plugin.mom_services() if hasattr(plugin, "mom_services") else {}
            texts: PolicyTexts | None = offered.get(PolicyTexts)
            if self._only_policies and texts is None:
                self.left_out[name] = "it takes no policies"
                return
            if hasattr(plugin, "mom_setup"):
                plugin.mom_setup(**({"context": context} if "context" in inspect.signature(plugin.mom_setup).parameters else {}))
        except Exception as error:  # noqa: BLE001  # whatever a plugin raises concerns that plugin
            self.left_out[name] = f"it cannot be set up here: {error}"
            return
        teardown = plugin.mom_teardown if hasattr(plugin, "mom_teardown") else _nothing
        for decide in (getattr(plugin, hook) for hook in _DECIDING if hasattr(plugin, hook)):
            takes = frozenset(inspect.signature(decide).parameters)
            self._evaluators.append(_Evaluator(name, decide, takes, texts, offered.get(ReasonedPolicies), teardown))
            texts, teardown = None, _nothing

    def _install(self, policies: Mapping[str, str]) -> None:
        for evaluator in self._evaluators:
            if evaluator.texts is not None:
                try:
                    evaluator.texts.change(policies, who=WHO, replace_all=True)
                except PolicyRefused as error:
                    raise MomError(f"these policies cannot be replayed: {error}", hint="`mom policy check` says what is wrong") from error
                return
        if self._own_policies is not None:
            raise MomError("no evaluator of this recording takes policies", hint="leave --policy out")

    def _teardown(self) -> None:
        for evaluator in self._evaluators:
            with suppress(Exception):  # it is over
                evaluator.teardown()


_COLLECTING: Final = ("mom_collect_host", "mom_collect_guests")


def _goes_by_what_it_did(plugin_class: type) -> bool:
    """Whether it acts, and asks the hypervisor for what came of it, of the host as of guests: its memory of that is in no snapshot."""
    asks = [getattr(plugin_class, hook) for hook in _COLLECTING if hasattr(plugin_class, hook)]
    everything = len(asks) == len(_COLLECTING) and all("hypervisor" in inspect.signature(hook).parameters for hook in asks)
    return everything and hasattr(plugin_class, "mom_act")


def _nothing() -> None:
    """There is no teardown."""


def scope_of(decision: Decision) -> str:
    """For a person: the host, or a guest's name."""
    return "host" if decision.entity.scope is Scope.HOST else str(decision.entity)
