"""The words of the language: special forms, builtins and the methods of entities and disks, with how many arguments each takes.

How they are compiled is in `compiler.py`; this table is what the reader's eye, the checks and the reference pages go by.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """One word: arguments at least and at most (None: any number), and what it does."""

    least: int
    most: int | None
    meaning: str

    def takes(self, count: int) -> bool:
        """Whether it can be used with this many arguments."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def arguments(self) -> str:
        """How many arguments it takes, in words."""
        if self.most is None:
            return f"{self.least} or more arguments"
        if self.most == self.least:
            return "no arguments" if self.least == 0 else "1 argument" if self.least == 1 else f"{self.least} arguments"
        return f"{self.least} to {self.most} arguments"


SPECIAL_FORMS = {
    "if": Word(3, 3, "evaluates the condition, then one branch only"),
    "let": Word(2, None, "a new scope with names bound one after the other; the value of the last form"),
    "def": Word(3, 3, "defines a function: name, parameters, one body form"),
    "defun": Word(3, 3, "the same as def"),
    "defvar": Word(2, 2, "binds a name in the innermost scope, unless it is bound there already"),
    "set": Word(2, 2, "assigns the nearest binding of a name"),
    "setq": Word(2, 2, "the same as set"),
    "with": Word(3, 3, "evaluates the body once for each element; the list of the values"),
}

BUILTINS = {
    "add": Word(2, 2, "sum of numbers; concatenation of strings or lists"),
    "sub": Word(2, 2, "difference"),
    "mul": Word(2, 2, "product; repetition of a string or list"),
    "div": Word(2, 2, "quotient, always a float"),
    "lt": Word(2, 2, "less than"),
    "gt": Word(2, 2, "greater than"),
    "lte": Word(2, 2, "less than or equal"),
    "gte": Word(2, 2, "greater than or equal"),
    "eq": Word(2, 2, "equal; never an error"),
    "neq": Word(2, 2, "not equal; never an error"),
    "shl": Word(2, 2, "shift to the left"),
    "shr": Word(2, 2, "arithmetic shift to the right"),
    "and": Word(1, None, "the first false argument, else the last; all are evaluated"),
    "or": Word(1, None, "the first true argument, else the last; all are evaluated"),
    "not": Word(1, 1, "whether the argument is false"),
    "min": Word(1, None, "the first smallest argument"),
    "max": Word(1, None, "the first largest argument"),
    "null": Word(0, None, "whether every argument is nil or empty"),
    "valid": Word(0, None, "whether no argument is nil"),
}

OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "<": "lt", ">": "gt", "<=": "lte", ">=": "gte", "==": "eq", "!=": "neq",
    "<<": "shl", ">>": "shr",
}  # fmt: skip
"""The second spelling of some builtins, usable as the head of a list."""

CALLABLES = {
    "abs": Word(1, 1, "absolute value; an integer stays one"),
    "debug": Word(1, None, "writes its arguments to the debug log; the last of them"),
}
"""Predefined variables that hold something callable."""

ENTITY_METHODS = {
    "Prop": Word(1, 1, "a property, such as the name"),
    "Stat": Word(1, 2, "the newest value of a field; the second argument if the newest sample lacks it"),
    "StatAvg": Word(1, 1, "the mean of a field over the samples that are kept; 0.0 if there is no value"),
    "Control": Word(2, 2, "asks for a control to be set"),
    "GetControl": Word(1, 1, "what was asked for in this evaluation"),
    "SetVar": Word(2, 2, "a note on the entity for this evaluation"),
    "GetVar": Word(1, 1, "a note of this evaluation, else nil"),
    "Remember": Word(2, 2, "a note on the entity that is kept across cycles and restarts; nil forgets it"),
    "Recall": Word(1, 2, "what was remembered in this or an earlier evaluation, else the second argument or nil"),
}

DISK_METHODS = {
    "setTotalBytesSec": "total_bytes_sec",
    "setReadBytesSec": "read_bytes_sec",
    "setWriteBytesSec": "write_bytes_sec",
    "setTotalIopsSec": "total_iops_sec",
    "setReadIopsSec": "read_iops_sec",
    "setWriteIopsSec": "write_iops_sec",
}
"""The methods of an io tune object, each with the key of `current` that it sets. One argument: a number, or nil."""

PREDEFINED = ("Host", "Guests", *CALLABLES)
"""The names that are bound when an evaluation starts."""
