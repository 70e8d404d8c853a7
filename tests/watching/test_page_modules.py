"""Checks of the page's modules with npm's tools: types against the API's models, lint, and unit tests.

    .venv/bin/pytest tests/watching/test_page_modules.py

The tools are installed once, from `page/package-lock.json`.
"""

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from watched_mom import PAGE_CHECKS as KEPT

from mom_core import Engine, load_config
from mom_plugins_http import HttpPlugin
from mom_plugins_http.routes.openapi import description

HERE = Path(__file__).parent / "page"
PAGE = Path(str(files("mom_plugins_http.page")))

pytestmark = pytest.mark.processes


def run(*command: str | Path, folder: Path = KEPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(one) for one in command], cwd=folder, capture_output=True, text=True, timeout=300, check=False)


# --- types ------------------------------------------------------------------------------------------------------------------------------


def typed(schema: Any) -> str:
    """Return a JSON schema as a TypeScript type."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(map(typed, several)))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(typed({**schema, "type": one}) for one in kind)
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(map(typed, schema['prefixItems']))}]"
        return f"({typed(schema.get('items', {}))})[]"
    if kind == "object" and schema.get("properties"):
        needed = schema.get("required", ())
        members = [f"{json.dumps(name)}{'' if name in needed else '?'}: {typed(one)};" for name, one in schema["properties"].items()]
        return f"{{ {' '.join(members)} }}"
    if kind == "object":
        more = schema.get("additionalProperties")
        return f"Record<string, {typed(more) if isinstance(more, dict) and more else 'any'}>"
    plain = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
    return plain.get(str(kind), "any")


def models(folder: Path) -> str:
    """Return TypeScript types of all answers and events of the API."""
    plugins: dict[str, object] = {"sim": {"guests": 1}, "policy": {}, "http": {}}
    config = load_config({"interval": "1h", "state_directory": f"{folder}/s", "run_directory": f"{folder}/r", "plugins": plugins})
    with Engine(config) as engine:
        (plugin,) = (one.instance for one in engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        assert plugin._service is not None
        described = description(plugin._service.routes)
    kinds = described["components"]["schemas"]
    assert {"ReportDocument", "Status", "Outcome"} <= set(kinds)
    types = [f"type {name} = {typed(kind)};" for name, kind in kinds.items() if name.isidentifier()]
    return "\n".join(["declare namespace Api {", *types, "}"])


def test_the_modules_types_fit_each_other_and_the_apis_models(page_tools: Path, tmp_path: Path) -> None:
    (KEPT / "models.d.ts").write_text(models(tmp_path))
    settings = json.loads((HERE / "tsconfig.json").read_text())
    settings["files"] = [str(KEPT / "models.d.ts"), *sorted(map(str, PAGE.glob("*.js")))]
    (KEPT / "tsconfig.json").write_text(json.dumps(settings))
    checked = run(page_tools / ".bin/tsc", "-p", KEPT)
    assert checked.returncode == 0, checked.stdout


def test_the_modules_have_no_mistake_that_a_linter_knows(page_tools: Path) -> None:
    checked = run(page_tools / ".bin/eslint", "--config", HERE / "eslint.config.js", "--no-config-lookup", ".", folder=PAGE)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_is_pure_figures_is_right(page_tools: Path) -> None:
    """node runs `page/*.test.js`, beside copies of the imported modules."""
    beside = KEPT / "tested"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for path in [*PAGE.glob("*.js"), *HERE.glob("*.test.js")]:
        shutil.copy(path, beside)
    tested = run("node", "--test", folder=beside)
    assert tested.returncode == 0, tested.stdout
    assert "# pass 0\n" not in tested.stdout
