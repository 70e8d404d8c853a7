"""`mom config`: what an operator sees, and what is written on the disk."""

import json
import os
import stat

import pytest

from mom_core import Guest, load_config
from mom_core.plugins.discovery import absent, how_to_install
from mom_core.plugins.secrets import MASK

SETTINGS = '''
class Settings(PluginSettings):
    step: Size = 64 << 20
    """How much at once. In guest memory."""
    period: Duration | None = None
    token: SecretStr = SecretStr("default secret")
    nested: Nested = Nested()
    """More."""

class GuestSettings(GuestSettings):
    share: int = 1
    """Its weight."""
    key: SecretStr | None = None
'''
IMPORTS = """from pydantic import BaseModel, SecretStr
from mom_core import ControlSpec, Duration, FieldSpec, Scope, Size, Suggestion, Unit
class Nested(BaseModel):
    one: int = 1"""


@pytest.fixture
def acme(only_shelf):
    """Return a function that installs a plugin with suggested settings."""

    def add(suggest: str = 'return Suggestion("Acme is here", {"step": "128MiB"})', name: str = "acme", body: str = "") -> None:
        only_shelf.add_plugin(name, f"{SETTINGS}\n@staticmethod\n@hookimpl\ndef mom_suggest(root):\n    {suggest}\n{body}", before=IMPORTS)

    return add


@pytest.fixture
def with_acme(acme):
    """Install that plugin."""
    acme()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mom.yaml"


@pytest.fixture
def check(mom, file):
    """Return a function that checks a configuration, and returns exit code, standard output and standard error."""

    def run(text: str, *options: str) -> tuple[int, str, str]:
        file.write_text(text)
        return mom("config", "check", "-c", file, *options)

    return run


# --- check ---------------------------------------------------------------------------------------------------------------------


def test_a_fine_configuration_is_said_to_be_fine_and_what_nobody_does_is_warned_of(with_acme, file, check):
    code, out, err = check('plugins: {acme: {}}\nguests: {"*": {share: 2}}')
    assert (code, err) == (0, "")
    assert f"{file} is fine: mode observe, a cycle every 5s, with the plugins acme" in out
    assert f"write `mode: enforce` in {file}, then: systemctl reload mom" in " ".join(out.split())
    assert "1 pattern for guests" in out
    assert "no enabled plugin provides a hypervisor: mom sees no guests" in out
    assert "no enabled plugin evaluates policies: mom decides nothing" in out


def test_everything_that_is_wrong_is_told_and_the_exit_code_is_2(with_acme, file, check):
    code, out, err = check("mode: x\nplugins:\n  acme: {stp: 1}\n  no: {}\n")
    assert (code, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()] == [f"{file}:1:1", f"{file}:3:10", f"{file}:4:3"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("@hookimpl\ndef mom_colect_host(self): ...", "there is no hook mom_colect_host"),
        ("@hookimpl\ndef mom_check(self):\n    raise KeyError(7)", "mom_check failed: KeyError: 7 (at "),
    ],
)
def test_what_is_wrong_with_a_plugin_is_found_before_the_daemon_starts(acme, file, body, told, check):
    acme(body=body)
    code, _, err = check("mode: observe\nplugins:\n  acme: {}\n")
    assert code == 2
    assert err.startswith(f"{file}:3:3: ")
    assert told in err
    assert "acme-acme" in err


def test_what_is_wrong_is_told_to_programs_by_its_place(with_acme, file, check):
    code, out, _ = check("plugins: {acme: {step: 5}}", "--json")
    assert code == 2
    (problem,) = json.loads(out)["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == (str(file), 1, 18)


CHECKS = """
@hookimpl
def mom_check(self):
    from mom_core import Finding, Severity
    assert ("step", Scope.HOST) not in self.context.declarations.fields
    return [Finding(Severity.{}, "gears", "{} do not fit", "take others")]
"""


def test_what_a_plugin_warns_of_is_told_beside_what_is_fine(mom, acme, file, check):
    acme(body=CHECKS.format("WARNING", "gears"))
    code, out, err = check("plugins: {acme: {}}")
    assert (code, err) == (0, "")
    assert out.endswith("warning: acme: gears do not fit\n  take others\n")
    said = json.loads(mom("config", "check", "-c", file, "--json")[1])
    assert said["fine"]
    assert said["warnings"][2:] == [{"plugin": "acme", "message": "gears do not fit", "hint": "take others"}]


def test_what_a_plugin_finds_wrong_with_its_configuration_refuses_it(acme, file, check):
    acme(body=CHECKS.format("ERROR", "wheels"))
    code, out, err = check("mode: observe\nplugins:\n  acme: {}\n")
    assert (code, out) == (2, "")
    assert err == f"{file}:3:3: plugin 'acme': wheels do not fit (take others)\n"


FINDS = """
@hookimpl
def {}(self):
    from mom_core import Finding, Severity
    return {}
"""


def test_doctor_shows_what_plugins_find_wrong_with_their_configuration_and_the_host(mom, acme, file):
    acme(body=FINDS.format("mom_check", "Finding(Severity.ERROR, 'gears', 'wheels do not fit')"))
    acme(name="other", body=FINDS.format("mom_doctor", "[Finding(Severity.OK, 'gears', 'all turn')]"))
    file.write_text(f"state_directory: {file.parent}/s\nrun_directory: {file.parent}/r\nplugins: {{acme: {{}}, other: {{}}}}\n")
    code, out, _ = mom("doctor", "-c", file, "--json")
    assert code == 1
    found = [(one["plugin"], one["severity"], one["message"]) for one in json.loads(out)]
    assert ("acme", "error", "wheels do not fit") in found
    assert ("other", "ok", "all turn") in found


SEES = """
@hookimpl
def mom_check(self):
    import os
    from mom_core import Finding, Severity
    return [Finding(Severity.WARNING, "gears", os.environ.get("WHO", "root") + " looks at them")]
"""


def test_plugins_look_as_the_user_whom_moms_folders_belong_to(acme, file, check, tmp_path, monkeypatch):
    acme(body=SEES)
    monkeypatch.setattr("mom_daemon.owner.become_owner", lambda *folders: monkeypatch.setenv("WHO", f"the owner of {folders[0].name}"))
    code, out, err = check(f"state_directory: {tmp_path}/kept\nplugins: {{acme: {{}}}}")
    assert (code, err) == (0, "")
    assert out.endswith("warning: acme: the owner of kept looks at them\n")


# --- show ----------------------------------------------------------------------------------------------------------------------


def test_show_says_of_every_setting_what_it_is_and_where_it_was_set(mom, with_acme, file):
    file.write_text('interval: 90s\nplugins:\n  acme:\n    step: 1.5GiB\nguests:\n  "db-*": {share: 2}\n')
    code, out, _ = mom("config", "show", "-c", file)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["interval", "90s", f"{file}:1"] in rows
    assert ["mode", "observe", "default"] in rows
    assert ["plugins.acme.step", "1536MiB", f"{file}:4"] in rows
    assert ["plugins.acme.deadline", "5s", "default"] in rows
    assert ['guests."db-*".share', "2", f"{file}:6"] in rows
    shown = json.loads(mom("config", "show", "-c", file, "--json")[1])
    assert shown["file"] == str(file)
    by_name = {row["setting"]: row for row in shown["settings"]}
    assert by_name["interval"] == {"setting": "interval", "value": "90s", "from": f"{file}:1"}
    assert by_name["plugins.acme.deadline"] == {"setting": "plugins.acme.deadline", "value": "5s", "from": "default"}


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_show_masks_secrets_and_what_is_only_called_one_and_leaves_paths_and_numbers(mom, with_acme, shelf, file, option):
    shelf.add_plugin(
        "loose",
        """
        class Settings(PluginSettings):
            api_token: str = "t0ken"
            headers: dict[str, str] = {"cookie": "c00kie", "accept": "text"}
            passwords: list[str] = ["hunter22"]
            key: str = "/etc/loose/key.pem"
            tokens_per_second: int = 4711
        """,
    )
    file.write_text('plugins: {loose: {}, acme: {token: s3cret}}\nguests: {"*": {key: s3cret}}')
    code, out, err = mom("config", "show", "-c", file, *option)
    assert code == 0
    assert not any(secret in out + err for secret in ("t0ken", "c00kie", "hunter22", "s3cret"))
    assert all(shown in out for shown in ("/etc/loose/key.pem", "4711", "text", MASK, "acme.token", "key"))


# --- schema --------------------------------------------------------------------------------------------------------------------


def test_the_schema_describes_the_whole_file_with_all_installed_plugins(mom, with_acme):
    code, out, _ = mom("config", "schema")
    schema = json.loads(out)
    assert code == 0
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"interval", "mode", "plugins", "guests"} <= schema["properties"].keys()
    assert schema["properties"]["interval"]["default"] == "5s"
    step = schema["properties"]["plugins"]["properties"]["acme"]["properties"]["step"]
    assert step["description"] == "How much at once. In guest memory."
    assert step["default"] == "64MiB"
    references = {line.split('"')[3].removeprefix("#/$defs/") for line in out.splitlines() if '"$ref"' in line}
    assert references
    assert references <= schema["$defs"].keys()
    assert schema["properties"]["guests"]["additionalProperties"]["properties"]["share"]["description"] == "Its weight."
    assert "default secret" not in out


def test_a_broken_plugin_is_missing_in_the_schema_and_that_is_said(mom, with_acme, shelf):
    shelf.add_plugin("broken", before="raise ValueError")
    code, out, err = mom("config", "schema")
    assert code == 0
    assert "acme" in json.loads(out)["properties"]["plugins"]["properties"]
    assert "acme-broken" in err


# --- init ----------------------------------------------------------------------------------------------------------------------


def test_init_writes_a_commented_file_by_which_mom_only_observes_and_that_says_how_it_is_made_to_act(mom, with_acme, tmp_path):
    file = tmp_path / "etc/mom/mom.yaml"
    code, out, err = mom("config", "init", "-o", file)
    assert (code, err) == (0, "")
    assert "acme  Acme is here" in out
    assert f"mom status -c {file} shows what mom would do" in " ".join(out.split())
    assert f"mom config check -c {file}" in " ".join(out.split())
    text = file.read_text()
    lines = text.splitlines()
    assert "write enforce here, then: systemctl reload mom" in lines[lines.index("mode: observe") - 1]
    assert lines[0] == "# yaml-language-server: $schema=mom.schema.json"
    assert "step" in json.loads((file.parent / "mom.schema.json").read_text())["properties"]["plugins"]["properties"]["acme"]["properties"]
    assert "    # nested: {}" in text
    assert "# acme: Acme is here" in text
    assert "    step: 128MiB" in text
    assert "# period: 30s" in text
    assert "default secret" not in text
    assert load_config(file).plugins["acme"].settings.step == 128 << 20  # type: ignore[attr-defined]  # of the test's own plugin
    assert f"{file} is fine: mode observe" in " ".join(mom("config", "check", "-c", file)[1].split())
    assert file.stat().st_mode & 0o777 == 0o644


def test_init_does_not_touch_a_file_that_is_there(mom, with_acme, file):
    file.write_text("mine")
    code, _, err = mom("config", "init", "-o", file)
    assert code == 1
    assert "exists already" in err
    assert "--force" in err
    assert file.read_text() == "mine"


def test_init_does_not_touch_a_file_that_comes_while_it_looks(mom, with_acme, file, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: file.write_text("mine"))
    assert mom("config", "init", "-o", file)[0] == 1
    assert file.read_text() == "mine"
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]


def test_init_replaces_a_file_when_it_is_told_to_and_a_links_target_behind_it(mom, with_acme, file, tmp_path):
    file.write_text("old")
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    assert mom("config", "init", "-o", link, "--force")[0] == 0
    assert link.is_symlink()
    assert "acme" in file.read_text()


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o664, 0o644)])
def test_who_may_read_a_file_that_is_replaced_stays_as_it_was(mom, with_acme, file, mode, kept):
    file.write_text("old")
    file.chmod(mode)
    root = os.geteuid() == 0
    if root:
        os.chown(file, 1, 1)
    assert mom("config", "init", "-o", file, "--force")[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == kept, "nobody but its owner may write to it"
    assert (file.stat().st_uid, file.stat().st_gid) == ((0, 1) if root else (os.geteuid(), os.getegid()))


@pytest.mark.parametrize("target", ["/dev/null", "/proc/mom.yaml", "/etc/passwd/x"])
def test_init_refuses_nicely_what_cannot_be_written(mom, with_acme, target):
    code, _, err = mom("config", "init", "-o", target, "--force")
    assert code == 1
    assert "Traceback" not in err
    assert "exists already" not in err
    assert "-o names another file" in err


LACKS_A_FIELD = """
@hookimpl
def mom_declare(self):
    return [ControlSpec('knob', Unit.COUNT, Scope.HOST, 'A knob.', 'nobodys_field')]
@hookimpl
def mom_read(self): ...
@hookimpl
def mom_write(self): ...
"""


def test_init_leaves_out_what_does_not_fit_or_lacks_another_plugin_with_the_reason(mom, acme, file):
    acme()
    acme("return None", name="absent")
    acme("raise SystemExit(4)", name="failing")
    acme("return 7", name="rubbish")
    acme('return Suggestion("here", {"stp": 1})', name="wrong")
    acme(name="lonely", body=LACKS_A_FIELD)
    code, out, _ = mom("config", "init", "-o", file)
    assert code == 0
    assert "SystemExit: 4" in out
    assert "mom_suggest returned int instead of Suggestion" in out
    assert "mom_suggest returned settings that the plugin rejects" in out
    assert "without lonely: " in out
    assert "nobodys_field" in out
    assert list(load_config(file).plugins) == ["acme"]
    assert mom("config", "check", "-c", file)[0] == 0


def test_init_takes_one_hypervisor_of_several_and_orders_plugins_as_they_ask_for(mom, acme, file):
    hypervisor = "@hookimpl\ndef mom_hypervisor(self): ...\n"
    acme('return Suggestion("here", order=21)', name="second", body=hypervisor)
    acme('return Suggestion("here", order=20)', name="third", body=hypervisor)
    acme(name="first", body=hypervisor)
    acme('return Suggestion("here", order=10)', name="z")
    code, out, _ = mom("config", "init", "-o", file)
    assert code == 0
    assert "without second: third already lists the guests of this host" in out
    assert "without first: third already lists the guests of this host" in out
    assert list(load_config(file).plugins) == ["z", "third"]


def test_init_without_anything_that_fits_says_what_to_install(mom, acme, file):
    acme("return None")
    code, _, err = mom("config", "init", "-o", file)
    assert code == 1
    assert f"for a KVM host: {how_to_install(*absent('kvm'))}" in err
    assert "mom-core[" not in err, "an extra is asked of an index, where the names may be another's"
    assert not file.exists()


def test_init_writes_what_plugins_suggest_for_guests_and_why(mom, acme, file):
    acme('return Suggestion("here", guests={"i-*": {"share": 3}}, guests_reason="They are sold so.")')
    acme('return Suggestion("here", guests={"s-*": {"share": 1}})', name="more")
    acme('return Suggestion("here", guests={"s-*": {"shar": 1}})', name="wrong")
    code, out, _ = mom("config", "init", "-o", file)
    assert code == 0
    assert "mom_suggest returned settings that the plugin rejects" in out
    assert '# They are sold so.\nguests:\n  "i-*": {share: 3}\n  "s-*": {share: 1}\n#   "db-*":\n' in file.read_text()
    settings = load_config(file).guest_settings("acme")
    assert [settings(Guest(name, name)).model_dump()["share"] for name in ("i-2", "s-2", "x")] == [3, 1, 1]


def test_doctor_names_what_fits_by_now_and_is_not_enabled(mom, acme, file, tmp_path):
    acme()
    acme("return None", name="zinc")
    acme("return Suggestion('no', {'stp': 1})", name="wrong")
    file.write_text(f"plugins: {{zinc: {{}}}}\nstate_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n")
    findings = json.loads(mom("doctor", "-c", file, "--json")[1])
    (fits,) = (one["message"] for one in findings if one["subject"] == "plugins")
    assert fits.endswith(": acme (Acme is here)")


def test_check_warns_of_several_hypervisors(acme, check):
    hypervisor = "@hookimpl\ndef mom_hypervisor(self): ...\n"
    acme(body=hypervisor)
    acme(name="other", body=hypervisor)
    code, out, _ = check("plugins: {acme: {}, other: {}}")
    assert code == 0
    assert "several plugins provide a hypervisor: acme, other; mom uses the first" in out


YAML = """state_directory: {here}/state
run_directory: {here}/run
plugins:
  policy:
    file: {policy}
  http:
    tcp:
      listen: "127.0.0.1:8132"
      certificate: {here}/nosuch.pem
      key: {here}/nokey.pem
"""


def test_every_file_that_is_missing_is_refused_at_its_place(tmp_path, file, check):
    code, _, said = check(YAML.format(here=tmp_path, policy="/nosuch"))
    assert code == 2
    assert f"{file}:5:" in said
    assert "plugins.policy.file: there is no file /nosuch" in said
    assert "plugins.http.tcp.certificate: " in said
    assert f"plugins.http.tcp.key: there is no file {tmp_path}/nokey.pem" in said
