"""Run commands as another user, even if that user cannot read this checkout."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

SHOW = """
set -e
closed=$1; shift; user=$1; shift; kept=$(mktemp -d)
number=0
while [ "$1" != -- ]; do
    number=$((number + 1)); mkdir "$kept/$number"; mount --bind "$1" "$kept/$number"; echo "$1" >"$kept/$number.name"; shift
done
shift
mount -t tmpfs -o mode=755 tmpfs "$closed"
while [ "$number" -gt 0 ]; do
    name=$(cat "$kept/$number.name"); mkdir -p "$name"; mount --bind "$kept/$number" "$name"; number=$((number - 1))
done
chmod 755 "$kept"
[ "$user" = 0 ] || set -- setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
exec "$@"
"""


def seen_by(user: int, *, later: bool = False) -> list[str]:
    """Return the first words of a command that runs as that user.

    This checkout may be in a private folder such as /root. So the command has its own mounts: an open folder in that place contains only
    the checkout and its interpreter.

        :param later: whether the command itself changes its user
    """
    needed = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    closed = next((path for need in needed for path in reversed(need.parents) if not path.stat().st_mode & 0o001), None)
    if (user == 0 and not later) or closed is None:
        return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
    below = [
        str(path) for path in dict.fromkeys(needed) if path.is_relative_to(closed) and not (path != ROOT and path.is_relative_to(ROOT))
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHOW, "sh", str(closed), str(user), *below, "--"]
