"""Reader of policy texts from a file or folder. One bad text makes all of them unusable."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mom_core import ConfigError, Problem, Source, is_there, printable, read_file, untrusted
from mom_plugins_policy.language import limits

SUFFIX = ".policy"
SINGLE = "50_main_"


@dataclass(slots=True)
class Texts:
    """Texts and files keyed by policy name, and problems found while reading."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    problems: list[ConfigError.Problem] = field(default_factory=list)

    def usable(self) -> Texts:
        """Return these texts. Raise `ConfigError` if there was a problem while reading them."""
        if self.problems:
            raise ConfigError(sorted(self.problems))
        return self


def read_policies(directory: Path | None, file: Path | None) -> Texts:
    """Return the operator's policies. The folder may be absent."""
    result = Texts() if directory is None else read_folder(directory, SUFFIX)
    if file is not None and _ours(file, result.problems):
        _read(file, SINGLE, result)
    return result


def read_folder(directory: Path, suffix: str, ignored: str = "") -> Texts:
    """Return a folder's texts. Files that other users than root and mom's can write become problems. The folder may be absent.

    :param ignored: ignore names that begin with one of these characters, or with `.`
    """
    result = Texts()
    if _ours(directory, result.problems):
        for path in _listed(directory, result.problems, suffix):
            if path.name[0] not in ignored and _ours(path, result.problems):
                _read(path, path.name.partition(suffix)[0], result)
    return result


def _ours(path: Path, problems: list[ConfigError.Problem]) -> bool:
    try:
        reason = untrusted(path) if is_there(path) else ""
    except OSError as error:
        problems.append(_problem(path, f"cannot be read: {error.strerror}"))
        return False
    if reason:
        hint = "anyone who can write there controls all guests: `chown root` and `chmod go-w`"
        problems.append(_problem(path, f"is not used: {reason}", hint))
    return not reason


def read_paths(paths: Iterable[Path]) -> Texts:
    """Read policies from files and folders. Each policy has the name of its file."""
    result = Texts()
    for path in paths:
        for file in _files_in(path, result.problems):
            name = (file.name.partition(SUFFIX)[0] if file.name.endswith(SUFFIX) else "") or file.name
            _read(file, name, result)
    return result


def _files_in(path: Path, problems: list[ConfigError.Problem]) -> list[Path]:
    if not path.is_dir():
        return [path]
    before = len(problems)
    files = list(_listed(path, problems, SUFFIX))
    if not files and len(problems) == before:
        problems.append(_problem(path, f"holds no file whose name ends with {SUFFIX}"))
    return files


def _listed(directory: Path, problems: list[ConfigError.Problem], suffix: str) -> Iterable[Path]:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(_problem(directory, f"cannot be listed: {error.strerror}", "use a folder that mom's user can read"))
        return []
    return [directory / name for name in names if name.endswith(suffix) and not name.startswith(".")]


def _read(path: Path, name: str, result: Texts) -> None:
    if name in result.files:
        if Path(result.files[name]) != path:
            message = f"has the same policy name as {result.files[name]}: {printable(name)}"
            result.problems.append(_problem(path, message, "rename one of them"))
        return
    result.files[name] = str(path)
    try:
        result.texts[name] = text_of(path)
    except ConfigError as error:
        result.problems += error.problems


def text_of(path: Path, longest: int = limits.TEXT_BYTES, hint: str = "a policy is a text file") -> str:
    """Read a file (`-`: standard input). Raise `ConfigError` if it cannot be read as text.

    :param longest: size limit in bytes
    :param hint: advice for the error
    """
    named = path
    try:
        if str(path) == "-":
            named = Path("standard input")
            content = b"" if sys.stdin is None else sys.stdin.buffer.read(longest + 1)
        else:
            content = read_file(path, longest)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a valid file name"
        advice = "check the path" if isinstance(error, FileNotFoundError) else hint
        raise ConfigError([_problem(named, f"cannot be read: {why}", advice)]) from error
    if len(content) > longest:
        raise ConfigError([_problem(named, f"has more than {longest:,} bytes", hint)])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = len(content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise ConfigError([ConfigError.Problem(printable(str(named), 400), line, column, message, "save the file as UTF-8 text")]) from None


def _problem(path: Path, message: str, hint: str = "") -> ConfigError.Problem:
    return ConfigError.Problem(printable(str(path), 400), 0, 0, message, hint)


def files_refused(plugin: str, error: ConfigError) -> Problem:
    """Return a problem for policy files that a reload refused."""
    message = f"the policy files were refused at the reload: {printable(str(replace(error.problems[0], hint='')), 400)}"
    hint = "the previous policies stay in force; correct the files (`mom config check` lists all errors), then reload mom"
    return Problem(Source(plugin), message, hint=hint)
