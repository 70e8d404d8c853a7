"""Makes mom's package for Cockpit of the page's own files: `python packaging/cockpit/package.py FOLDER`.

Cockpit shows what is in such a folder, as `mom` below one of its data directories: `/usr/local/share/cockpit/mom` by hand.
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
"""What the document has in Cockpit where mom itself writes the page's modules."""

_MARK: Final = "<!--modules-->"


def main(arguments: list[str]) -> int:
    """Make it in the folder that is named."""
    if len(arguments) != 1:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    make(Path(arguments[0]))
    return 0


def make(folder: Path) -> None:
    """Make it there: the page's own files, but for the module that reaches mom."""
    (folder / "page").mkdir(parents=True, exist_ok=True)
    for path in (HERE / "manifest.json", HERE / "in_cockpit.js", HERE / "in_cockpit.css"):
        shutil.copyfile(path, folder / path.name)
    for path in (*PAGE.glob("*.js"), *PAGE.glob("*.css"), HERE / "connection.js"):
        shutil.copyfile(path, folder / "page" / path.name)
    (folder / "index.html").write_text((PAGE / "page.html").read_text().replace(_MARK, HEAD))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
