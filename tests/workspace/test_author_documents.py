"""docs/authors: blocks with file names are written, commands run, and recipes pass the conformance kit.

A block's info string is a language and a file (```` ```python src/x.py ````), or `console`. Commands begin with `$ `. The lines below a
command must be in its output, in this order; `…` matches anything. /tmp/mom-tutorial is the folder of the test.
"""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from mom_core import Guest, GuestPattern, PluginContext, PluginSettings, Severity
from mom_core.config.configuration import SECTIONS, CoreSettings, setting_names
from mom_core.config.document import Document
from mom_devkit import check_plugin
from mom_kvm import GuestDescription, GuestPlatform, PlatformProperties
from mom_plugins_vdsm.momd.importer import CONTROLLERS, CONTROLS, GUEST_COLLECTORS, HOST_COLLECTORS, HYPERVISOR

ROOT = Path(__file__).parents[2]
AUTHORS = ROOT / "docs/authors"
SCENE = "/tmp/mom-tutorial"
GENERATED = {"protocols.md", "errors.md", "conformance.md"}
TUTORIALS = sorted(path.name for path in AUTHORS.glob("tutorial-*.md"))
RECIPES = ("recipes.md", "from-mom.md")
"""Pages whose Python blocks are whole plugins."""
TEXTS = sorted(path.name for path in AUTHORS.glob("*.md") if path.name not in GENERATED)
SECONDS = 600
"""Time limit of a document in seconds on a busy machine. Alone, it takes about twenty."""


@dataclass(frozen=True)
class Block:
    """Fenced block: language, file (empty for commands), text and first line."""

    language: str
    file: str
    text: str
    line: int


def blocks(name: str) -> Iterator[Block]:
    text = (AUTHORS / name).read_text()
    for match in re.finditer(r"^```(\w*)[ ]?([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield Block(match[1], match[2].strip(), match[3], text[: match.start()].count("\n") + 1)


@pytest.mark.parametrize("name", TEXTS)
def test_every_block_is_a_file_or_a_command(name: str) -> None:
    for block in blocks(name):
        assert block.language == "console" or block.file, f"{name}:{block.line}: nobody runs this block"


@pytest.fixture
def environment(tmp_path: Path, mypy_options: list[str], authors_pytest: list[str]) -> dict[str, str]:
    """Return a new virtual environment that also sees the packages of this one. It uses no index."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    tools = {"mypy": mypy_options, "pytest": authors_pytest, "pip": []}
    commands = {
        tool: f"import runpy, sys; sys.argv[1:1] = {options}; runpy.run_module({tool!r}, run_name='__main__')"
        for tool, options in tools.items()
    }
    commands["mom"] = "import sys; from mom_daemon.cli import main\nif __name__ == '__main__': sys.exit(main())"
    for name, program in commands.items():
        script = folder / "bin" / name
        script.write_text(f"#!{python}\n{program}\n")
        script.chmod(0o755)
    (folder / "bin/ruff").symlink_to(Path(sys.executable).parent / "ruff")  # a program, not a module
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MOM_", "PYTEST_", "PYTHON", "COV_"))}
    return {
        **clean,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip inverts this value: it disables isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


MARK = "@@ command"


def script_of(name: str, scene: Path) -> tuple[str, list[tuple[int, str, list[str]]]]:
    """Return a shell script of a document, and its commands with their lines and expected output."""
    lines = ["set -e", f"mkdir -p {scene}", f"cd {scene}"]
    commands: list[tuple[int, str, list[str]]] = []
    for block in blocks(name):
        text = block.text.replace(SCENE, str(scene))
        if block.language != "console":
            end = "END_OF_THE_FILE"
            lines += [f"mkdir -p $(dirname {block.file})", f"cat > {block.file} <<'{end}'", text.rstrip("\n"), end]
            continue
        for number, line in enumerate(text.splitlines()):
            if line.startswith("$ "):
                commands.append((block.line + number + 1, line[2:], []))
                lines += [f"echo '{MARK} {len(commands) - 1}'", line[2:]]
                if line.startswith("$ mom run "):  # on a busy machine, mom starts later than the page says
                    lines += ["until mom status -c mom.yaml > starting 2>&1; do kill -0 %1; sleep 0.2; done"]
            else:
                commands[-1][2].append(line)
    return "\n".join(lines) + "\n", commands


def matches(expected: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part.strip()) for part in expected.split("…"))
    return re.search(pattern if "…" in expected else f"^{pattern}$", line.strip()) is not None


@pytest.mark.long
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_does_what_it_says(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    script, commands = script_of(name, tmp_path / "scene")
    said, errors = tmp_path / "said", tmp_path / "errors"
    with said.open("w") as out, errors.open("w") as err:
        shell = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            code = shell.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):  # processes that a command has left
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    parts = re.split(rf"^{MARK} (\d+)\n", said.read_text(), flags=re.M)
    outputs = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    line, command, _ = commands[max(outputs)]
    assert code == 0, f"{name}:{line}: {command}\n{outputs[max(outputs)]}\n{errors.read_text()}"
    for number, (line, command, expected) in enumerate(commands):
        left = outputs[number].splitlines()
        for wanted in expected:
            while left and not matches(wanted, left[0]):
                left.pop(0)
            assert left or wanted.strip() == "…", f"{name}:{line}: {command}\nlacks: {wanted}\n{outputs[number]}"
    log = [path.read_text() for path in tmp_path.rglob("mom.log")]
    assert "Traceback" not in "".join(log)


@pytest.mark.parametrize("name", [name for name in TEXTS if name not in TUTORIALS and name not in RECIPES])
def test_blocks_of_the_other_pages_run_too(name: str, tmp_path: Path) -> None:
    for block in blocks(name):
        if block.language == "python":
            module_of(block, tmp_path)
        else:
            assert block.language == "yaml", f"{name}:{block.line}: nobody runs this block"
            document = Document.parse(block.text, name)
            assert not document.problems
            assert isinstance(document.value, Mapping)
            assert document.value.keys() <= {*setting_names(CoreSettings), *SECTIONS}


def recipes() -> list[Block]:
    return [block for name in RECIPES for block in blocks(name) if block.language == "python"]


def module_of(block: Block, folder: Path) -> ModuleType:
    path = folder / block.file
    path.write_text(block.text)
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("block", recipes(), ids=lambda block: block.file)
def test_a_recipe_passes_the_conformance_kit(block: Block, tmp_path: Path) -> None:
    module = module_of(block, tmp_path)
    own = [thing for thing in vars(module).values() if isinstance(thing, type) and thing.__module__ == module.__name__]
    plugins = [thing for thing in own if any(name.startswith("mom_") for name in dir(thing))]
    assert plugins, f"{block.file} has no plugin"
    for plugin in plugins:
        host = getattr(module, "HOST", None)
        hypervisor = getattr(module, "hypervisor", None)
        findings = check_plugin(plugin, name=Path(block.file).stem, host=host, hypervisor=hypervisor)
        wrong = [one for one in findings if one.severity is Severity.ERROR]
        assert not wrong, [finding.message for finding in wrong]


def test_what_became_of_moms_collectors_and_controllers_is_what_is_imported() -> None:
    text = (AUTHORS / "from-mom.md").read_text()
    rows = [[re.findall(r"`(\w+)`", cell) for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    named = {name: plugin[0] if plugin else HYPERVISOR for names, plugin, *_ in rows for name in names if name[0].isupper()}
    assert named == {**HOST_COLLECTORS, **GUEST_COLLECTORS, **CONTROLLERS}
    controls = {names[0]: tuple(rest[0]) for names, _, *rest in rows if rest and names and names[0] in CONTROLS}
    assert controls == CONTROLS


def test_the_recipe_of_a_platform_gives_a_guest_what_its_patterns_match(tmp_path: Path) -> None:
    (block,) = (block for block in recipes() if block.file == "shop.py")
    shop: GuestPlatform = module_of(block, tmp_path).ShopPlatform(PluginSettings(), PluginContext())
    properties = PlatformProperties(PluginContext(offers={GuestPlatform: (shop,)}))
    told = '<domain><metadata><s:guest xmlns:s="https://shop.example/guest" team="db" tier="gold"/></metadata></domain>'
    found = properties.of(GuestDescription(domain=ElementTree.fromstring(told)))  # noqa: S314  # our own text
    assert found == {"team": "db", "tier": "gold"}
    assert properties.of(GuestDescription(options={"description": "the shop, team web%0A"})) == {"team": "web"}
    assert properties.of(GuestDescription(domain=ElementTree.Element("domain"))) == {}
    assert GuestPattern.of("team=d*").matches(Guest("1", "vm", properties=found))


def test_recipes_pass_types_and_lint(tmp_path: Path) -> None:
    for block in recipes():
        (tmp_path / block.file).write_text(block.text)
    tools = Path(sys.executable).parent
    commands: list[list[str | Path]] = [
        [tools / "ruff", "check", "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path],
        [tools / "mypy", "--strict", "--cache-dir", ROOT / ".cache/mypy", tmp_path],  # cache of `nox -s types`
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
