"""Documents about policies are correct: examples, commands, tests and quoted policies."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mom_daemon import declarations_of
from mom_daemon.cli.frame import run
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.checks import check
from mom_plugins_policy.cli.inputs import with_fields_of, written_value
from mom_plugins_policy.language.errors import KINDS
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.snapshots import EXAMPLE, read_snapshot

DECLARED = declarations_of()
DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("policy-language.md", *(f"lessons/{path.name}" for path in sorted((DOCS / "lessons").glob("*.md"))), "policy-tests.md")
MARK = re.compile(r"#.*?(?P<marks>[→✗].*)$")


class Block(NamedTuple):
    """Code block of a page: its line, kind and text."""

    page: str
    line: int
    kind: str
    text: str


def blocks(kind: str) -> list[Block]:
    """Return all blocks of a language in the pages. `kind` is the word after the language: a file name for files."""
    texts = {page: (DOCS / page).read_text() for page in PAGES}
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[2].strip(), match[3])
        for page, text in texts.items()
        for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.M | re.S)
        if match[1] == kind
    ]


def name(block: Block) -> str:
    return f"{block.page}:{block.line}"


class Answer(NamedTuple):
    """Values of an input, and its new errors."""

    values: list[Any]
    errors: list[Any]


class Session:
    """Evaluate an example's forms one after the other. Definitions remain, unless a form ends an evaluation."""

    def __init__(self) -> None:
        self.taken = read_snapshot(EXAMPLE)
        self.declared = with_fields_of(self.taken, DECLARED)
        self.inputs: dict[str, str] = {}
        self.faults: set[object] = set()

    def add(self, text: str) -> Answer:
        name = f"~{len(self.inputs):06}"
        try:
            policy = Policy.compile({**self.inputs, name: text}, self.declared)
        except PolicyError as error:
            return Answer([], list(error.problems))
        result = policy.evaluate(self.taken)
        values = [value for form, value in zip(policy.program.forms, result.values, strict=False) if form.text.name == name]
        errors = [fault for fault in result.errors if (fault.kind, fault.source, fault.guest) not in self.faults]
        if not result.stopped:
            self.inputs[name] = text
            self.faults = {(fault.kind, fault.source, fault.guest) for fault in result.errors}
        return Answer(values, errors)


def inputs(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the forms of an example, each with the value and the kind of error in its comment; empty without one."""
    rest = text
    while rest.strip():
        for end, line in enumerate(rest.split("\n")):
            so_far = "\n".join(rest.split("\n")[: end + 1])
            mark = MARK.search(line)
            if mark or complete(so_far):
                break
        marks = mark["marks"] if mark else ""
        value = re.search(r"→ (.+?)(?= {2,}|, [a-z]| ✗|$)", marks)
        kind = re.search(r"✗ ([a-z-]+)", marks)
        yield so_far, value[1].strip() if value else "", kind[1] if kind else ""
        rest = "\n".join(rest.split("\n")[end + 1 :])


def complete(text: str) -> bool:
    try:
        return bool(read("p", text))
    except Exception:  # noqa: BLE001  # it goes on in the next line
        return False


@pytest.mark.parametrize("block", [b for b in blocks("lisp") if not b.kind], ids=name)
def test_an_example_comes_to_what_is_shown(block: Block) -> None:
    talk = Session()
    for text, value, kind in inputs(block.text):
        answer = talk.add(text)
        kinds = {fault.kind for fault in answer.errors}
        assert kinds == ({kind} if kind else set()), (text, answer.errors)
        if value:
            assert written_value(answer.values[-1]) == value, text


@pytest.mark.parametrize("path", sorted(DOCS.parent.glob("mom_plugins_*/README.md")), ids=lambda path: path.parent.name)
def test_the_policies_of_a_plugins_page_have_no_mistakes(path: Path) -> None:
    for text in re.findall(r"^```lisp\n(.*?)^```$", path.read_text(), re.M | re.S):
        assert check({"60_shown": text}, DECLARED) == []


def test_every_kind_of_error_is_explained() -> None:
    table = (DOCS / "policy-language.md").read_text().partition("| kind |")[2]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.M)) == KINDS


@pytest.mark.parametrize("block", blocks("console"), ids=name)
def test_commands_print_as_shown(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for other in [b for b in blocks("lisp") if b.page == block.page and b.kind]:
        (tmp_path / other.kind).write_text(other.text)
    for match in re.finditer(r"^\$ mom (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
        import shlex

        run(shlex.split(match[1]))
        printed = capfd.readouterr()
        shown = match[2].rstrip("\n")
        got = "\n".join(line.rstrip() for line in (printed.out + printed.err).rstrip("\n").split("\n"))
        if shown.endswith("…"):
            assert got.startswith(shown[:-1].rstrip()), got
        else:
            assert got == shown


@pytest.mark.parametrize("policy", sorted(DECLARED.policies))
def test_a_default_policy_is_quoted_whole_and_as_it_is(policy: str) -> None:
    quoted = "".join(block.text for block in blocks("lisp") if block.kind == policy)
    assert [line.strip() for line in code(quoted)] == [line.strip() for line in code(DECLARED.policies[policy])]


def code(text: str) -> list[str]:
    """Return the lines of a policy without comment lines."""
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("block", blocks("python"), ids=name)
def test_tests_that_are_shown_pass(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in blocks("lisp"):
        if other.page == block.page and other.kind:
            (tmp_path / other.kind).write_text(other.text)
    module: dict[str, Any] = {}
    exec(block.text, module)  # noqa: S102  # a page of this repository
    shown = [function for name, function in module.items() if name.startswith("test_")]
    assert len(shown) > 1
    for function in shown:
        function()
