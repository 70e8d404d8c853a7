"""Reader that turns text into forms, in linear time and without recursion."""

from __future__ import annotations

import re

from mom_core import printable
from mom_kvm import PolicyProblem
from mom_plugins_policy.language import limits
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.syntax import Form, FormKind, SourceText

TOKEN = re.compile(
    r"""
      (?P<skip>    (?: \s | \#[^\n]* )++ )
    | (?P<open>    [(\[{] )
    | (?P<close>   [)\]}] )
    | (?P<name>    [A-Za-z_][A-Za-z0-9_.\-]*+ )
    | (?P<string>  "[^"\\]*+(?:\\.[^"\\]*+)*+" | '[^'\\]*+(?:\\.[^'\\]*+)*+' )
    | (?P<float>   -?(?: [0-9]*\.[0-9]++(?:[eE][-+]?[0-9]++)? | (?:0|[1-9][0-9]*+)[eE][-+]?[0-9]++ ) )
    | (?P<hex>     0[xX][0-9a-fA-F]++ )
    | (?P<octal>   0o[0-9]++ )
    | (?P<integer> -?(?: 0(?![xX][0-9a-fA-F]|o[0-9]) | [1-9][0-9]*+ )(?![0-9.eE]) )
    | (?P<operator> <= | >= | << | >> | == | != | [-+*/<>] )
    """,
    re.VERBOSE,
)
_SKIP, _OPEN, _CLOSE, _NAME, _STRING, _FLOAT, _HEX, _OCTAL, _INTEGER, _OPERATOR = range(1, 11)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BASES = {_INTEGER: 10, _HEX: 16, _OCTAL: 8}


def read(name: str, text: str, *, first_index: int = 0) -> list[Form]:
    """Read the top-level forms.

    :param first_index: `index` of the first form
    :raises PolicyError: its `kind` is `syntax`, `bad-literal`, `range`, `recursion` or `limit`
    """
    source = SourceText(name, text)
    top: list[Form] = []
    here = top
    open_forms: list[Form] = []
    position = 1 if text.startswith("\ufeff") else 0
    end = len(text)
    index = first_index
    match = TOKEN.match
    while position < end:
        token = match(text, position)
        if token is None:
            raise _no_token(source, position)
        start, position = position, token.end()
        group = token.lastindex or 0
        if group == _SKIP:
            continue
        if group == _CLOSE:
            _close(open_forms, source, start)
            here = open_forms[-1].items if open_forms else top
            continue
        if group == _OPEN:
            form = Form(FormKind.BLOCK if text[start] == "{" else FormKind.LIST, None, source, start, position, index)
            here.append(form)
            open_forms.append(form)
            here = form.items
            if len(open_forms) > limits.NESTING:
                raise _refusal("recursion", source, start, f"more than {limits.NESTING} brackets are open here")
        elif group in (_NAME, _OPERATOR):
            if position - start > limits.NAME:
                raise _refusal("limit", source, start, f"a name of more than {limits.NAME} characters")
            kind = FormKind.NAME if group == _NAME else FormKind.OPERATOR
            here.append(Form(kind, token.group(), source, start, position, index))
        else:
            here.append(Form(FormKind.LITERAL, _literal(group, token.group(), source, start), source, start, position, index))
        index += 1
        if index > limits.FORMS:
            raise _refusal("limit", source, start, f"more than {limits.FORMS:,} atoms and lists")
    if open_forms:
        form = open_forms[-1]
        raise _refusal("syntax", source, form.start, f"{text[form.start]} is never closed: a {_CLOSING[text[form.start]]} is missing")
    return top


def _close(open_forms: list[Form], source: SourceText, start: int) -> None:
    closing = source.text[start]
    if not open_forms:
        raise _refusal("syntax", source, start, f"{closing} has no opening bracket")
    form = open_forms.pop()
    opening = source.text[form.start]
    if _CLOSING[opening] != closing:
        _, line, column = form.source
        raise _refusal("syntax", source, start, f"{closing} does not close the {opening} of {line}:{column}")
    form.end = start + 1


def _literal(group: int, token: str, source: SourceText, start: int) -> int | float | str:
    if group == _STRING:
        return token[1:-1]
    if group == _FLOAT:
        return float(token)
    if group == _OCTAL and ("8" in token or "9" in token):
        raise _refusal("bad-literal", source, start, f"{printable(token, 30)} is octal, but has a digit 8 or 9")
    # Shorter than Python's limit for decimal digits.
    if len(token) <= limits.INTEGER_BITS and (number := int(token, _BASES[group])).bit_length() <= limits.INTEGER_BITS:
        return number
    raise _refusal("range", source, start, f"an integer of more than {limits.INTEGER_BITS} bits")


def _no_token(source: SourceText, position: int) -> PolicyError:
    text = source.text
    character = text[position]
    if character in "\"'":
        message = f"the string that begins with this {character} has no end (a backslash must not be the last character of a line)"
    elif character.isdigit() or character in ".-":
        shown = re.compile(r"[-0-9.A-Za-z_+]{0,20}").match(text, position)
        message = f"{shown.group() if shown else character} is not a number"
    else:
        message = f"{printable(character)} (U+{ord(character):04X}) is not valid here"
    return _refusal("syntax", source, position, message)


def _refusal(kind: str, source: SourceText, offset: int, message: str) -> PolicyError:
    return PolicyError([PolicyProblem(*source.source(offset), kind, message)])
