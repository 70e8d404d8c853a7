"""Write the files that mom's packages install to a folder: `python packaging/tree.py FOLDER [EXTRA]`, in a clone.

The tree contains the distributions of mom-core's extra `all`, or of the given extra.

Builds are reproducible on every Debian: requirements.lock fixes the versions, and every file has the commit's time.
The tree fits all of PYTHONS: names of C modules contain the interpreter's version, and installing the package compiles bytecode.
"""

from __future__ import annotations

import ast
import filecmp
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from address import address

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = "usr/lib/mom"
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
"""Interpreters of Debian 12 to 14 and Ubuntu 26.04. A dependency on python3 is a range."""
PLATFORM: Final = "x86_64-manylinux_2_36"
"""Debian 12's C library. Later versions are compatible."""
SAME_BYTES: Final = {"pynacl": "22de65bb9010a725b0dac248f353bb072969c94fa8d6b1f34b87d7953cf7bbe4"}
"""SHA-256 of the wheel, keyed by distribution, if several wheels in requirements.lock fit PLATFORM."""
PROGRAMS: Final = {"mom": "mom_daemon.cli:main", "momd": "mom_plugins_vdsm.momd.daemon:main"}
"""Programs in /usr/bin. mom-guestd is installed in guests, and mom-rpcclient is for developers of vdsm."""
HELPER: Final = f"/usr/bin/python3 -I -S /{HOME}/lib/python3/site-packages/mom_helper"
"""Options of the interpreter for root's programs. They import only the standard library and themselves, not mom's environment."""
LIBVIRT_HELPER: Final = HELPER.replace(" -S", "")
"""This program also imports the system's libvirt module."""
HELPERS: Final = ("mom-helper", "mom-libvirt-helper")
UNITS: Final = ("mom.service", "mom-restore.service", *(f"{name}.{kind}" for name in HELPERS for kind in ("service", "socket")))
RIGHTS: Final = {
    "mom.sysusers.conf": "usr/lib/sysusers.d/mom.conf",
    "helper.d/mom.conf": "usr/lib/mom/helper.d/mom.conf",
    "polkit/60-mom.rules": "usr/share/polkit-1/rules.d/60-mom.rules",
}
NOT_OURS: Final = 'libvirt-python; python_version < "3"\n'
"""Never installed: the system's own package fits its libvirt, and gets its updates."""

PIP_IN_UV: Final = {
    "cert": "SSL_CERT_FILE",
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
}
"""Settings of pip, and the corresponding variables of uv."""

WHEELS: Final = """
import os, sys
from hatchling.build import build_wheel

for folder in sys.argv[2:]:
    os.chdir(folder)
    build_wheel(sys.argv[1])
"""
"""Build the wheels of all folders in one process, like `uv build --wheel --no-build-isolation`."""

PROGRAM: Final = """\
#!/{home}/bin/python3 -I
import sys

from {module} import {function}

if __name__ == "__main__":  # `mom plugin check` starts processes that import this file
    sys.exit({function}())
"""

COMPLETION: Final = {
    "bash": "usr/share/bash-completion/completions/{}",
    "zsh": "usr/share/zsh/vendor-completions/_{}",
    "fish": "usr/share/fish/vendor_completions.d/{}.fish",
}


def main(arguments: list[str]) -> int:
    """Write the tree. The folder must be empty or missing."""
    if len(arguments) not in {1, 2}:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree = Path(arguments[0]).resolve()
    tree.mkdir(parents=True, exist_ok=True)
    if any(tree.iterdir()):
        print(f"{tree} is not empty; name another folder", file=sys.stderr)
        return 2
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch())
    os.environ |= as_pip_is_told(subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True, timeout=60))
    os.umask(0o022)
    packages = tree / HOME / "lib/python3/site-packages"
    folders = distributions(*arguments[1:])
    with tempfile.TemporaryDirectory(prefix="mom-tree-") as scratch:
        _install(folders, Path(scratch), packages)
    _make_environment(tree / HOME, packages)
    programs = {name: target for name, target in PROGRAMS.items() if target.partition(".")[0] in folders}
    _write_programs(tree, programs)
    _write_units(tree / "usr/lib/systemd/system")
    _write_rights(tree)
    _write_completion(tree, packages, programs)
    _write_manual(tree / "usr/share/man/man1", packages, programs)
    _write_documents(tree / "usr/share/doc/mom")
    _run(sys.executable, ROOT / "packaging/cockpit/package.py", tree / "usr/share/cockpit/mom")
    _settle(tree)
    return 0


def epoch() -> int:
    """Return the commit's time in seconds since 1970, or SOURCE_DATE_EPOCH."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or subprocess.check_output(["git", "-C", ROOT, "log", "-1", "--format=%ct"], text=True))


def as_pip_is_told(listed: str) -> dict[str, str]:
    """Return variables for uv from pip's settings of indexes and certificates. uv's own settings stay.

    :param listed: output of `pip config list`: lines such as `global.cert='/etc/ca.pem'`, in any order
    """
    options: dict[str, str] = {}
    matches = [re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.+)", line) for line in listed.splitlines()]
    for match in sorted(filter(None, matches), key=lambda match: ("global", "install", ":env:").index(match[1])):
        if name := PIP_IN_UV.get(match[2]):
            places = str(ast.literal_eval(match[3])).split()
            if name in {"UV_FIND_LINKS", "UV_INDEX"}:
                places = [place for place in places if _is_remote_or_present(place)]
            options[name] = ("," if name == "UV_FIND_LINKS" else " ").join(places)
    if "UV_INDEX" in options:
        options["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # like pip, which treats all indexes alike; the lock has hashes
    return {name: value for name, value in options.items() if name not in os.environ}


def _is_remote_or_present(place: str) -> bool:
    """Return whether uv can use an index. Unlike pip, uv fails if a folder is missing."""
    parts = urlsplit(place)
    return (parts.scheme not in {"", "file"}) or Path(unquote(parts.path)).exists()


def version() -> str:
    """Return the version of all distributions."""
    text = (ROOT / "mom_core/src/mom_core/_version.py").read_text()
    return str(re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)[0])


def distributions(extra: str = "all") -> list[str]:
    """Return the folders of the core and the distributions of one of its extras."""
    project = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]
    names = [requirement.partition("==")[0].partition("[")[0] for requirement in project["optional-dependencies"][extra]]
    return ["mom_core", *(name.replace("-", "_") for name in names)]


def _install(folders: Collection[str], scratch: Path, packages: Path) -> None:
    """Install these distributions and their requirements for each interpreter, in one folder."""
    uv = (sys.executable, "-m", "uv", "--quiet", "--no-progress")
    (scratch / "wheels").mkdir()
    _run(sys.executable, "-c", WHEELS, scratch / "wheels", *(ROOT / folder for folder in folders))
    (scratch / "overrides").write_text(NOT_OURS)
    (scratch / "constraints").write_text(one_wheel_each((ROOT / "packaging/requirements.lock").read_text()))
    wheels = sorted(map(str, (scratch / "wheels").glob("*.whl")))
    for python in PYTHONS:
        target = scratch / python
        fits = ("--python-version", python, "--python-platform", PLATFORM, "--override", scratch / "overrides")
        versions = ("--constraint", scratch / "constraints", "--link-mode", "copy")
        _run(*uv, "pip", "install", "--target", target, *fits, *versions, *wheels)
        _remove_installer_files(target)
        _lay_over(target, packages)


def one_wheel_each(lock: str) -> str:
    """Return the lock with a single hash for the distributions in SAME_BYTES.

    :raises SystemExit: the lock does not have that hash, such as after an upgrade
    """
    for name, digest in SAME_BYTES.items():
        match = re.search(rf"^{name}==\S+(?: ; [^\\\n]+)? \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE)
        if match is None or f"--hash=sha256:{digest}" not in match[0]:
            raise SystemExit(
                f"requirements.lock has no {name} with the hash in SAME_BYTES: set SAME_BYTES to the hash of a wheel of the locked version"
            )
        first = match[0].partition("\n")[0]
        lock = lock.replace(match[0], f"{first}\n    --hash=sha256:{digest}\n")
    return lock


def _remove_installer_files(target: Path) -> None:
    """Remove programs with this machine's interpreter in their first line, and records that would make pip manage these files."""
    shutil.rmtree(target / "bin", ignore_errors=True)
    for folder in target.glob("*.dist-info"):
        for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json", "WHEEL"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "sboms", ignore_errors=True)  # component lists of single wheels, with build times
    for path in (target / ".lock", target / "CACHEDIR.TAG"):
        path.unlink(missing_ok=True)
    for folder in list(target.rglob("__pycache__")):
        shutil.rmtree(folder)
    for module in target.glob("yaml/_yaml*.so"):
        module.unlink()  # mom uses PyYAML's Python parser, not its copy of libyaml
    for module in target.rglob("*.so"):
        _run("strip", "--strip-unneeded", module)


def _lay_over(source: Path, packages: Path) -> None:
    for path in _files(source):
        place = packages / path.relative_to(source)
        if place.exists():
            if not filecmp.cmp(path, place, shallow=False):
                raise SystemExit(
                    f"{place.relative_to(packages)} differs between Python {', '.join(PYTHONS)}: one tree cannot have both files"
                )
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _make_environment(home: Path, packages: Path) -> None:
    """Turn a folder into a virtual environment that can be moved."""
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("../../../bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    for python in PYTHONS:
        (home / f"lib/python{python}").symlink_to("python3")
    shutil.copyfile(ROOT / "packaging/system_libvirt.py", packages / "mom_system_libvirt.py")
    # First the operator's packages, then the finder. Neither replaces mom's modules.
    (packages / "mom-host.pth").write_text("/usr/local/lib/mom\nimport mom_system_libvirt\n")


def _write_programs(tree: Path, programs: Mapping[str, str]) -> None:
    folder = tree / "usr/bin"
    folder.mkdir(parents=True)
    for name, target in programs.items():
        module, _, function = target.partition(":")
        program = tree / HOME / "bin" / name
        program.write_text(PROGRAM.format(home=HOME, module=module, function=function))
        program.chmod(0o755)
        (folder / name).symlink_to(f"../lib/mom/bin/{name}")


def _write_units(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in UNITS:
        text = (ROOT / "packaging" / name).read_text()
        text = text.replace("/opt/mom/bin/python3 -I -m mom_helper serve-libvirt", f"{LIBVIRT_HELPER} serve-libvirt")
        text = text.replace("/opt/mom/bin/python3 -I -m mom_helper", HELPER)
        (folder / name).write_text(text.replace("/opt/mom/bin/", "/usr/bin/"))


def _write_rights(tree: Path) -> None:
    """Write the systemd units, the user, polkit rules, and drop-ins with more rights."""
    for name, place in RIGHTS.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "packaging" / name, tree / place)
    for path in (ROOT / "packaging/drop-ins").glob("*.conf"):
        drop_in = tree / HOME / "drop-ins" / path.name
        drop_in.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, drop_in)


def _write_completion(tree: Path, packages: Path, programs: Mapping[str, str]) -> None:
    for shell, place in COMPLETION.items():
        for name, target in programs.items():
            path = tree / place.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            module, _, function = target.partition(":")
            program = f"import sys; sys.argv = ['{name}']; from {module} import {function}; sys.exit({function}())"
            path.write_text(_run_installed(packages, "-c", program, **{f"_{name.upper()}_COMPLETE": f"{shell}_source"}))


def _write_manual(folder: Path, packages: Path, programs: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    # From this environment, it imports only click-man: the package does not contain the rest.
    tool = importlib.util.find_spec("click_man")
    if tool is None or tool.origin is None:
        raise SystemExit(f"click-man is not installed: {sys.executable} -m pip install click-man")
    with tempfile.TemporaryDirectory(prefix="mom-tree-") as scratch:
        Path(scratch, "click_man").symlink_to(Path(tool.origin).parent)
        path = os.pathsep.join((str(packages), scratch))
        _run_installed(packages, str(ROOT / "packaging/manual.py"), str(folder), version(), *programs, PYTHONPATH=path)
    _run("gzip", "-9n", *sorted(folder.glob("*.1")))


def _write_documents(folder: Path) -> None:
    (folder / "examples").mkdir(parents=True)
    shutil.copyfile(ROOT / "CHANGELOG.md", folder / "CHANGELOG.md")
    _run("gzip", "-9n", folder / "CHANGELOG.md")
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shipped = {*pages, *(ROOT / "docs").glob("*.svg")}
    for path in shipped:
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(with_links_that_lead_somewhere(path, shipped) if path in pages else path.read_text())
    for name in ("grafana", "prometheus", "sos"):
        shutil.copytree(ROOT / "packaging" / name, folder / "examples" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "examples/policies", folder / "examples/policies", ignore=shutil.ignore_patterns("__pycache__"))


def with_links_that_lead_somewhere(page: Path, shipped: Collection[Path]) -> str:
    """Return a page's text. Links to files outside the package lead to the repository."""
    repository = address()

    def led(link: re.Match[str]) -> str:
        target = (page.parent / link[1]).resolve()
        if target in shipped or not target.exists():
            return link[0]
        return f"]({repository}/{'tree' if target.is_dir() else 'blob'}/main/{target.relative_to(ROOT)}{link[2] or ''})"

    return re.sub(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)", led, page.read_text())


def _settle(tree: Path) -> None:
    """Set modes and times that do not depend on the user and the time of the build."""
    for path in [*tree.rglob("*"), tree]:
        if path.is_symlink():
            continue
        program = path.is_dir() or path.parent == tree / HOME / "bin"
        path.chmod(0o755 if program else 0o644)
    for path in [*tree.rglob("*"), tree]:
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _run(*command: str | Path) -> None:
    """Run a program. If it fails, exit with its output and without a traceback."""
    if code := subprocess.run(command, timeout=900, check=False).returncode:
        raise SystemExit(f"{Path(command[0]).name} {' '.join(map(str, command[1:5]))} … ended with exit code {code}")


def _run_installed(packages: Path, *arguments: str, **environment: str) -> str:
    """Return the output of Python with the tree's modules. The tree stays unchanged."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOM_")}
    clean |= {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", **environment}
    done = subprocess.run([sys.executable, "-S", *arguments], env=clean, stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments[0]} ended with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
