"""Reader of vdsm's own configuration. Operators need not repeat its values in mom's settings."""

from __future__ import annotations

import configparser
import logging
from dataclasses import dataclass
from pathlib import Path

_MAIN = "etc/vdsm/vdsm.conf"
_DROP_INS = ("usr/lib/vdsm/vdsm.conf.d", "run/vdsm/vdsm.conf.d", "etc/vdsm/vdsm.conf.d")

PORT = 54321
_SAMPLE_INTERVAL_SECONDS = 15.0
"""vdsm's own default."""


@dataclass(frozen=True, slots=True)
class VdsmConf:
    """Configuration of vdsm. The sample interval is in seconds."""

    tls: bool = True
    host: str = "localhost"
    port: int = PORT
    sample_interval: float = _SAMPLE_INTERVAL_SECONDS


def read_vdsm_conf(root: Path, log: logging.Logger) -> VdsmConf:
    """Return vdsm's configuration: the main file, then all drop-ins, sorted by file name; later files win.

    Log unreadable files and invalid values. The defaults replace them.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    drop_ins = [path for folder in _DROP_INS for path in (root / folder).glob("*.conf")]
    for path in (root / _MAIN, *sorted(drop_ins, key=lambda path: path.name)):
        try:
            parser.read_string(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
        except (configparser.Error, UnicodeDecodeError) as error:
            log.warning("%s is invalid: %s", path, str(error).splitlines()[0])

    def number(section: str, option: str, default: int, most: int) -> int:
        try:
            value = parser.getint(section, option, fallback=default)
            if not 0 < value <= most:
                raise ValueError
        except ValueError:
            log.warning("vdsm's option %s in [%s] should be a number from 1 to %d", option, section, most)
            return default
        return value

    try:
        tls = parser.getboolean("vars", "ssl", fallback=True)
    except ValueError:
        log.warning("vdsm's option ssl in [vars] is neither true nor false")
        tls = True
    port = number("addresses", "management_port", PORT, 65535)
    sample_interval = float(number("vars", "vm_sample_interval", round(_SAMPLE_INTERVAL_SECONDS), 3600))
    host = _address(parser.get("addresses", "management_ip", fallback="::"))
    return VdsmConf(tls, host, port, sample_interval)


def _address(listens: str) -> str:
    listens = listens.strip()
    return "localhost" if listens in {"", "::", "0.0.0.0"} else listens  # noqa: S104  # only compared
