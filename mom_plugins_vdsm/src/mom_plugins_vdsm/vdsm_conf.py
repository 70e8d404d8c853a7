"""vdsm's own configuration, as far as it says how to reach vdsm: read, so that the operator need not say it twice."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

_MAIN = "etc/vdsm/vdsm.conf"
_DROP_INS = ("usr/lib/vdsm/vdsm.conf.d", "run/vdsm/vdsm.conf.d", "etc/vdsm/vdsm.conf.d")

PORT = 54321
SAMPLE_INTERVAL_SECONDS = 15.0
"""vdsm's defaults."""

_TRUE, _FALSE = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})


@dataclass(frozen=True, slots=True)
class VdsmConf:
    """How vdsm is configured: whether it speaks TLS, where it listens, every how many seconds it samples its guests.

    `files` are those that were read; `problems` say what could not be, or made no sense: the default holds then.
    """

    tls: bool = True
    host: str = "localhost"
    port: int = PORT
    sample_interval: float = SAMPLE_INTERVAL_SECONDS
    files: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def read_vdsm_conf(root: Path) -> VdsmConf:
    """vdsm's configuration below `root`: the main file, then all drop-ins, sorted by file name; what comes later wins."""
    files, problems = [], []
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    drop_ins = [path for folder in _DROP_INS for path in _configurations(root / folder)]
    for path in (root / _MAIN, *sorted(drop_ins, key=lambda path: path.name)):
        try:
            text = path.read_text(encoding="utf-8")
            parser.read_string(text, str(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except (configparser.Error, UnicodeDecodeError) as error:
            problems.append(f"{path} makes no sense: {str(error).splitlines()[0]}")
        else:
            files.append(path)
    values = _Values(parser, problems)
    return VdsmConf(
        values.flag("vars", "ssl", True),
        _address(parser.get("addresses", "management_ip", fallback="::")),
        values.whole("addresses", "management_port", PORT, 65535),
        float(values.whole("vars", "vm_sample_interval", int(SAMPLE_INTERVAL_SECONDS), 3600)),
        tuple(files),
        tuple(problems),
    )


def _configurations(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix == ".conf"]
    except OSError:
        return []


def _address(listens: str) -> str:
    """Where to connect to a vdsm that listens there: anything reaches one that listens everywhere."""
    listens = listens.strip()
    return "localhost" if listens in {"", "::", "0.0.0.0"} else listens  # noqa: S104  # compared with, not listened on


@dataclass(frozen=True, slots=True)
class _Values:
    parser: configparser.ConfigParser
    problems: list[str]

    def flag(self, section: str, option: str, default: bool) -> bool:
        text = self.parser.get(section, option, fallback="").strip().lower()
        if text and text not in _TRUE | _FALSE:
            self.problems.append(f"vdsm's option {option} in [{section}] is {text!r:.40}, which is neither true nor false")
        return text in _TRUE or (default and text not in _FALSE)

    def whole(self, section: str, option: str, default: int, largest: int) -> int:
        text = self.parser.get(section, option, fallback="").strip()
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= largest:
            return int(text)
        self.problems.append(f"vdsm's option {option} in [{section}] is {text!r:.40}, and should be a number from 1 to {largest}")
        return default
