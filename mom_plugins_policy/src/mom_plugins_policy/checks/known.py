"""Knowledge at one point of a walk: what variables hold, which functions are defined, and which values are not nil."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from mom_plugins_policy.checks.values import NIL_VALUE, NOT_BOUND, Keys, Value, bound, either
from mom_plugins_policy.language.facts import Facts
from mom_plugins_policy.language.words.types import NIL, UNBOUND

Key: TypeAlias = "tuple[str, Hashable] | tuple[str, Hashable, str]"
"""The key of what is held: a `variable` of a scope, a `function`, a `note` of an entity, or a value that is `not nil`."""


class Knowledge:
    """Changes as the walk goes on; what two branches have changed is joined."""

    def __init__(self) -> None:
        self.chain = [0]
        """The scopes, by their numbers, from the outside in."""
        self.store: Facts[Key, Any] = Facts()
        self._scopes = 0

    def know(self, keys: Keys) -> None:
        """These values are not nil from here on."""
        for key in keys:
            if ("not nil", key) not in self.store:
                self.store.learn(("not nil", key), True)

    def is_known(self, value: Value) -> bool:
        """Return True if a value is not nil here."""
        return ("not nil", value.identity) in self.store

    def join(self, one: Mapping[Key, Any], other: Mapping[Key, Any], if_true: Keys, if_false: Keys) -> None:
        """Hold what is so after either of two branches that changed this."""
        for key in {**one, **other}:
            now = self.store.get(key)
            then, otherwise = one.get(key, now), other.get(key, now)
            kind = key[0]
            if kind == "not nil":
                if then and otherwise:
                    self.store.learn(key, True)
            elif kind == "function":
                self.store.learn(key, tuple(dict.fromkeys((*(then or ()), *(otherwise or ())))))
            else:
                missing = NOT_BOUND if kind == "variable" else NIL_VALUE
                self.store.learn(key, either(then or missing, otherwise or missing, if_true, if_false))

    @contextlib.contextmanager
    def scoped(self) -> Iterator[None]:
        """Yield a new scope."""
        chain = self.chain
        self._scopes += 1
        self.chain = [*chain, self._scopes]
        try:
            yield
        finally:
            self.chain = chain

    def bind(self, name: str, value: Value) -> Value:
        """Bind a name in the innermost scope unless it is bound there; the value that it has then."""
        key = ("variable", self.chain[-1], name)
        before = self.store.get(key)
        if before is None or before.types & UNBOUND:
            value = value if before is None else either(bound(before), value)
            self.store.learn(key, value)
            return value
        return before  # type: ignore[no-any-return]  # of a variable it is a value

    def lookup(self, name: str) -> Value | None:
        """Return the value of a variable; None if it cannot have one."""
        result: Value | None = None
        for scope in reversed(self.chain) if name != "nil" else ():
            value = self.store.get(("variable", scope, name))
            if value is not None:
                result = bound(value) if result is None else either(result, bound(value))
                if not value.types & UNBOUND:
                    return result
        return result

    def narrowed(self, value: Value) -> Value:
        """Return a value that is read, with what is known of it here."""
        if value.types & NIL and value.types != NIL and self.is_known(value):
            return replace(value, types=value.types & ~NIL, doubt=None, key=value.identity)
        return value
