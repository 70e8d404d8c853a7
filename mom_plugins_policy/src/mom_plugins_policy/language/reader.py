"""From text to forms: in linear time, without recursion, with the position of everything that is wrong."""

from __future__ import annotations

import re

from mom_core import printable
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
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
"""One token, or the white space and comments between two."""
_SKIP, _OPEN, _CLOSE, _NAME, _STRING, _FLOAT, _HEX, _OCTAL, _INTEGER, _OPERATOR = range(1, 11)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CURES = {
    ";": "a comment begins with #", ",": "white space separates, without commas", "%": "write 50 % as 0.5",
    "=": "== compares, and (set NAME VALUE) gives a variable another value", "!": "write (not …), or != between two values",
    "&": "write (and … …)", "|": "write (or … …)", "\u201c": 'a text stands in "', "\u201d": 'a text stands in "',
    "\u2018": "a text stands in '", "\u2019": "a text stands in '",
}  # fmt: skip
"""What to write instead of characters that other languages have, or word processors put in."""
_BITS_PER_DIGIT = 3.32  # a little less than log2(10)


def read(name: str, text: str, limits: PolicyLimits = DEFAULT_LIMITS, *, first_index: int = 0) -> list[Form]:
    """Return the top-level forms of one policy text.

    :param name: the policy's name, for positions
    :param first_index: what the first form's `index` is, when several texts are read into one program
    :raises PolicyError: `syntax` (a character that begins no token, unmatched brackets), `bad-literal`, `range` (an integer
        beyond `limits.integer_bits`), `recursion` (nested deeper than `limits.nesting`) or `limit` (too long, too many forms)
    """
    whole = _accepted(name, text, limits)
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
            raise _no_token(whole, position)
        start, position = position, token.end()
        what = token.lastindex
        if what == _SKIP:
            continue
        if what == _CLOSE:
            if not open_forms:
                raise _refusal("syntax", whole, start, f"{text[start]} closes nothing")
            form = open_forms.pop()
            if _CLOSING[text[form.start]] != text[start]:
                _, line, column = form.source
                raise _refusal("syntax", whole, start, f"{text[start]} does not close the {text[form.start]} of {line}:{column}")
            form.end = position
            here = open_forms[-1].items if open_forms else top
            continue
        if what == _OPEN:
            form = Form(FormKind.BLOCK if text[start] == "{" else FormKind.LIST, None, whole, start, position, index)
            here.append(form)
            open_forms.append(form)
            here = form.items
            if len(open_forms) > limits.nesting:
                raise _refusal("recursion", whole, start, f"more than {limits.nesting} brackets are open here")
        elif what in (_NAME, _OPERATOR):
            if position - start > limits.name:
                raise _refusal("limit", whole, start, f"a name of more than {limits.name} characters")
            kind = FormKind.NAME if what == _NAME else FormKind.OPERATOR
            here.append(Form(kind, token.group(), whole, start, position, index))
        else:
            here.append(Form(FormKind.LITERAL, _literal(what, token.group(), whole, start, limits), whole, start, position, index))
        index += 1
        if index > limits.forms:
            raise _refusal("limit", whole, start, f"more than {limits.forms:,} atoms and lists (the setting limits.forms)")
    if open_forms:
        form = open_forms[-1]
        raise _refusal("syntax", whole, form.start, f"{text[form.start]} is never closed: a {_CLOSING[text[form.start]]} is missing")
    return top


def _literal(what: int | None, token: str, whole: SourceText, start: int, limits: PolicyLimits) -> int | float | str:
    if what == _STRING:
        return token[1:-1]
    if what == _FLOAT:
        return float(token)
    if what == _INTEGER:
        if len(token) * _BITS_PER_DIGIT < limits.integer_bits + 8 and (number := int(token)).bit_length() <= limits.integer_bits:
            return number
    elif what == _HEX:
        if (len(token) - 2) * 4 <= limits.integer_bits:
            return int(token, 16)
    elif "8" in token or "9" in token:
        raise _refusal("bad-literal", whole, start, f"{printable(token, 30)} is octal, and has a digit 8 or 9")
    elif (len(token) - 2) * 3 <= limits.integer_bits:
        return int(token, 8)
    raise _refusal("range", whole, start, f"an integer of more than {limits.integer_bits} bits")


def _accepted(name: str, text: str, limits: PolicyLimits) -> SourceText:
    """Return the text, if it is not too large."""
    if len(text) > limits.text:
        what = f"the text has {len(text):,} characters; at most {limits.text:,} are read (the setting limits.text)"
        raise _refusal("limit", SourceText(name, ""), 0, what)
    return SourceText(name, text)


def _no_token(whole: SourceText, position: int) -> PolicyError:
    text = whole.text
    character = text[position]
    if character in "\"'":
        what = f"the string that begins with this {character} has no end (a backslash cannot stand directly before a line break)"
    elif character.isdigit() or character in ".-":
        shown = re.compile(r"[-0-9.A-Za-z_+]{0,20}").match(text, position)
        what = f"{shown.group() if shown else character} is no number"
        if shown and re.fullmatch("-?[0-9]+[.]", shown.group()):
            what += f": write {shown.group()}0"
        elif shown and re.fullmatch("-?0[0-9]+", shown.group()):
            what += ": leave out the zeros before it"
    else:
        what = f"{printable(character)} (U+{ord(character):04X}) begins nothing that the language knows"
        what += f": {_CURES[character]}" if character in _CURES else ""
    return _refusal("syntax", whole, position, what)


def _refusal(kind: str, whole: SourceText, offset: int, message: str) -> PolicyError:
    return PolicyError([Fault(kind, *whole.source(offset), message)])
