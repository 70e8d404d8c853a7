"""Set the version in all files of a release: `python packaging/version.py 0.2.0`. Without a version, print the present one.

mom_core/src/mom_core/_version.py is the source. Distributions require each other in the same version, so each contains a copy. CHANGELOG.md
gets the release's heading with today's date, above the unreleased changes.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from address import address

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "mom_core/src/mom_core/_version.py"
VERSION: Final = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def main(arguments: list[str]) -> int:
    """Print the version, or set another one."""
    now = version()
    if not arguments:
        print(now)
        return 0
    (wanted,) = arguments
    if not VERSION.fullmatch(wanted):
        print(f"{wanted!r} is not a version: use three numbers such as 0.2.0, or 0.2.0rc1 for a release candidate", file=sys.stderr)
        return 2
    texts = {path: stamped(path.read_text(encoding="utf-8"), now, wanted) for path in places()}
    changes = ROOT / "CHANGELOG.md"
    texts[changes] = released(changes.read_text(encoding="utf-8"), wanted, datetime.datetime.now(datetime.UTC).date())
    for path, text in texts.items():  # an error leaves all files unchanged
        path.write_text(text, encoding="utf-8")
    return 0


def version() -> str:
    """Return the present version."""
    (found,) = re.finditer(r'^__version__ = "([^"]+)"$', SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1]


def places() -> Iterator[Path]:
    """Yield the files with the version."""
    for folder in sorted(path.parent for path in ROOT.glob("mom_*/pyproject.toml")):
        yield folder / "pyproject.toml"
    yield SOURCE
    yield ROOT / "mom_plugins_guestagent/src/mom_plugins_guestagent/guestd.py"
    yield ROOT / "packaging/editors/package.json"
    yield ROOT / "packaging/kubernetes/base/daemonset.yaml"
    yield ROOT / "packaging/kubernetes/chart/Chart.yaml"


def stamped(text: str, now: str, wanted: str) -> str:
    """Replace mom's version in a file's text. Versions of other projects stay."""
    own = re.escape(now)
    text = re.sub(rf'^(__version__|VERSION|version) = "{own}"$', rf'\1 = "{wanted}"', text, flags=re.MULTILINE)
    text = re.sub(rf"^version: {own}$", f"version: {wanted}", text, flags=re.MULTILINE)
    text = re.sub(rf'^appVersion: "{own}"$', f'appVersion: "{wanted}"', text, flags=re.MULTILINE)
    text = text.replace(f"image: mom-node:{now}", f"image: mom-node:{wanted}")
    text = re.sub(rf'"version": "{own}"', f'"version": "{wanted}"', text)
    return re.sub(rf'"(mom-[a-z-]+(?:\[[a-z,]+\])?)=={own}"', rf'"\1=={wanted}"', text)


def released(changes: str, wanted: str, today: datetime.date) -> str:
    """Return the changelog (https://keepachangelog.com) with its unreleased part as this release."""
    if f"\n## [{wanted}]" in changes:
        raise SystemExit(f"CHANGELOG.md already has {wanted}: use a later version, or remove its heading")
    head = "\n## [Unreleased]\n"
    before, found, after = changes.partition(head)
    if not found:
        raise SystemExit("CHANGELOG.md has no heading `## [Unreleased]`: add it above the new entries")
    links = f"[Unreleased]: {address()}/compare/v{wanted}...main\n[{wanted}]: {address()}/releases/tag/v{wanted}"
    before = re.sub(r"^\[Unreleased\]: .*$", links, before, flags=re.MULTILINE)
    return f"{before}{head}\n## [{wanted}] - {today.isoformat()}\n{after}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
