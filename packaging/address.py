"""Replace the repository's address in all files of a clone: `python packaging/address.py https://HOST/OWNER/NAME`.

Without an argument, print the present address: the homepage in mom_core/pyproject.toml. Packages take their address and maintainer from
there. Other distributions, their readmes, the changelog and the release workflow contain copies.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ADDRESS: Final = re.compile(r"https://[\w.-]+/([\w.-]+/[\w.-]+)")


def main(arguments: list[str]) -> int:
    """Print the address, or replace it."""
    now = address()
    if not arguments:
        print(now)
        return 0
    (wanted,) = arguments
    if not ADDRESS.fullmatch(wanted):
        print(f"{wanted!r} is not the address of a repository: use one such as https://github.com/OWNER/NAME", file=sys.stderr)
        return 2
    texts = {path: moved(text, now, wanted) for path, text in places(now).items()}  # an error leaves all files unchanged
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


def address() -> str:
    """Return the present address."""
    return str(tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"])


def places(now: str) -> dict[Path, str]:
    """Return the files with the address, and their texts."""
    slug = ADDRESS.sub(r"\1", now)
    listed = subprocess.check_output(["git", "-C", ROOT, "grep", "--name-only", "--fixed-strings", "-I", slug], text=True, timeout=60)
    return {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in listed.splitlines()}


def moved(text: str, now: str, wanted: str) -> str:
    """Replace an address, and its part OWNER/NAME."""
    slug, wanted_slug = (ADDRESS.sub(r"\1", address) for address in (now, wanted))
    return text.replace(now, wanted).replace(slug, wanted_slug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
