"""The special forms: words that do not simply evaluate their arguments."""

from __future__ import annotations

from collections.abc import Mapping

from mom_plugins_policy.words.functions import BUILTINS
from mom_plugins_policy.words.word import Word

_FORMS = (
    Word(name="if", least=3, most=3, meaning="evaluates the condition, then one branch only"),
    Word(name="let", least=2, most=None, meaning="a new scope with names bound one after the other; the value of the last form"),
    Word(name="def", least=3, most=3, meaning="defines a function: name, parameters, one body form"),
    Word(name="defun", least=3, most=3, meaning="the same as def"),
    Word(name="defvar", least=2, most=2, meaning="binds a name in the innermost scope, unless it is bound there already"),
    Word(name="set", least=2, most=2, meaning="assigns the nearest binding of a name"),
    Word(name="setq", least=2, most=2, meaning="the same as set"),
    Word(name="with", least=3, most=3, meaning="evaluates the body once for each element; the list of the values"),
    Word(name="eval", least=0, most=None, meaning="one form after the other, as in `{ }`; the value of the last one"),
)

SPECIAL_FORMS: Mapping[str, Word] = {word.name: word for word in _FORMS}

WORDS: Mapping[str, Word] = {**SPECIAL_FORMS, **BUILTINS}
"""What a list may begin with, if no variable has the name."""

EXTENSIONS = frozenset(name for name, word in WORDS.items() if word.extension)
"""Those that yield to functions that policies define."""
