"""Build mom's package for Cockpit from the files of mom's page: `python packaging/cockpit/package.py FOLDER`.

Cockpit shows a folder `mom` in one of its data directories, such as `/usr/local/share/cockpit/mom`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE.parents[1] / "mom_plugins_http/src/mom_plugins_http/page"

HEAD: Final = """\
<link rel="stylesheet" href="in_cockpit.css">
<script src="../base1/cockpit.js"></script>
<script src="../manifests.js"></script>
<script src="in_cockpit.js"></script>
<script type="module" src="page/page.js"></script>"""
"""Scripts of the document in Cockpit. On its own page, mom inserts the modules here."""

_MARK: Final = "<!--modules-->"


def main(arguments: list[str]) -> int:
    """Build the package in the given folder."""
    if len(arguments) != 1:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    make(Path(arguments[0]))
    return 0


def make(folder: Path) -> None:
    """Write the page's files, with another module that connects to mom."""
    (folder / "page").mkdir(parents=True, exist_ok=True)
    for path in (HERE / "manifest.json", HERE / "in_cockpit.js", HERE / "in_cockpit.css"):
        shutil.copyfile(path, folder / path.name)
    for path in (*PAGE.glob("*.js"), *PAGE.glob("*.css"), HERE / "connection.js"):
        shutil.copyfile(path, folder / "page" / path.name)
    (folder / "index.html").write_text((PAGE / "page.html").read_text().replace(_MARK, HEAD))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
