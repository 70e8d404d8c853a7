"""The configuration: valid files are read, and all errors are reported at once, each with its place and a cure."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mom_core import ConfigError, Guest, GuestSettings, Portion, UnitError, load_config, read_settings
from mom_core.config import Config

ACME = '''
class Inner(StrictModel):
    depth: int = 1

class Plugin:

    class Settings(PluginSettings):
        step: Annotated[Size, Field(gt=0, le=1 << 30)] = 64 << 20
        """How much at once."""
        period: Annotated[Duration, Field(ge=1, le=60)] = 5.0
        """How often."""
        count: int = 3
        ratio: float = 0.5
        kind: Literal["near", "far"] = "near"
        enabled: bool = True
        path: Path = Path("/x")
        either: int | str = 1
        names: tuple[str, ...] = ()
        inner: Inner = Inner()
        token: SecretStr = SecretStr("default secret")

    class GuestSettings(GuestSettings):
        share: Annotated[int, Field(ge=1)] = 1
        floor: Size | None = None

    def __init__(self, settings, context):
        self.settings = settings
'''
IMPORTS = """
from pathlib import Path
from typing import Annotated, Literal
from pydantic import Field, SecretStr
from mom_core import Duration, GuestSettings, PluginSettings, Size
from mom_core import StrictModel
"""


@pytest.fixture
def acme(shelf):
    """Install a plugin with settings of all kinds."""
    shelf.add("acme-plugins", {"acme": "shelf_acme:Plugin"}, {"shelf_acme": IMPORTS + ACME})
    return shelf


@pytest.fixture
def problems(tmp_path: Path):
    """Return a function that returns the errors of a text, as `line:column: message (hint)`."""

    def read(text: str | bytes) -> list[str]:
        file = tmp_path / "mom.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        lines = [str(problem) for problem in caught.value.problems]
        assert all(line.startswith(f"{file}:") for line in lines)
        return [line.removeprefix(f"{file}:").strip() for line in lines]

    return read


@pytest.fixture
def config(tmp_path: Path):
    """Return a function that reads a valid text."""

    def read(text: str) -> Config:
        file = tmp_path / "mom.yaml"
        file.write_text(text)
        return load_config(file)

    return read


# --- valid files -------------------------------------------------------------------------------------------------------------


def test_a_configuration_is_read(acme, config):
    acme.add_plugin("other")
    read = config(
        """
        interval: 500ms
        mode: observe
        history: 20
        root: /host
        log_level: debug
        plugins:
          other:
          acme: {step: 1.5MiB, period: 1m, names: [a, b], path: /y, either: text, inner: {depth: 2}, enabled: false, token: s3cret}
        """
    )
    assert (read.interval, read.mode, read.history, read.root, read.log_level) == (0.5, "observe", 20, Path("/host"), "debug")
    assert list(read.plugins) == ["other", "acme"]
    acme_settings = read.plugins["acme"].settings
    assert acme_settings.step == 1536 << 10
    assert acme_settings.period == 60.0
    assert acme_settings.names == ("a", "b")
    assert acme_settings.path == Path("/y")
    assert acme_settings.either == "text"
    assert acme_settings.inner.depth == 2
    assert acme_settings.enabled is False
    assert acme_settings.token.get_secret_value() == "s3cret"


# --- errors of files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.yaml", r"no such file.*mom config init"),
        (".", "is a directory"),
        ("pipe", "not a regular file"),
        ("large.yaml", "larger than 1,048,576 bytes"),
        *((name, None) for name in ("/proc/self/maps", "/dev/zero", "x" * 5000, "/etc/passwd/mom.yaml")),
    ],
)
def test_a_configuration_must_be_a_regular_file(tmp_path, name, words):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large.yaml").open("wb") as sparse:
        sparse.truncate(1_000_000_000_000)
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path / name)


# --- errors of syntax ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("plugins: [1", "1:12", "expected ',' or ']'"),
        ("plugins:\n\thost: {}", "2:1", "'\\t'"),
        ("mode: a: b", "1:8", "string with a colon in quotes"),
        ("interval 5s\nplugins:\n  sim: {}", "2:8", "the line above for a missing colon"),
        ("mode: 'x\nplugins: {}", "2:12", "from line 1"),
        ("mode: \0", "not valid YAML", "not allowed"),
        ('mode: "\\UFFFFFFFF"', "not valid YAML", "too large"),
        ("a: 1\n---\nb: 2", "2:1", "another document"),
        ("mode: x\n  y: z", "2:4", "indentation"),
        ("plugins: &a [*a]", "1:10", "nested deeper"),
        ("# old\n[main]\ncontrollers: Balloon\n", "3:1", "`mom config import"),
    ],
)
def test_a_syntax_error_has_a_place_and_advice(problems, text, place, words):
    (problem,) = problems(text)
    assert problem.startswith(place)
    assert words in problem


# --- limits --------------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "recursion") for text in ("[" * 2_000, "? " * 2_000, "\n".join(" " * n + "a:" for n in range(900)))),
        ("plugins:\n  p0: &a0 []\n" + "".join(f"  p{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 150)), "nested deeper than 50 levels"),
        ("guests:\n" + "".join(f"  g{n}: {{}}\n" for n in range(11_000)), "more than 10,000 keys"),
    ],
    ids=range(5),
)
def test_deep_nesting_and_too_many_keys_are_refused(problems, text, words):
    assert any(words in problem for problem in problems(text))


# --- errors of keys and values ----------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_file(acme, problems):
    told = problems(
        'intervall: 5s\nmode: enforced\nplugins:\n  acme: {step: 5, stepp: 1}\n  acne: {}\nguests:\n  "db-*": {shar: 2}\nmode: observe\n'
    )
    assert told == [
        "1:1: intervall: there is no such setting (did you mean 'interval'?)",
        "2:1: mode: must be 'enforce' or 'observe', not the string 'enforced' (did you mean 'enforce'?)",
        "4:10: plugins.acme.step: 5 has no unit (write it like 64MiB; units are B, KiB, MiB, GiB, TiB, PiB, kB, KB, MB, GB, TB, PB)",
        "4:19: plugins.acme.stepp: there is no such setting (did you mean 'step'?)",
        "5:3: plugin 'acne' is not installed (did you mean 'acme'?)",
        "8:1: mode: duplicate key, first used in line 2 (remove one of them)",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("interval: -5s", "1:1: interval: '-5s' is not a number with a unit (write it like 5s)"),
        ("interval: 0", "1:1: interval: must be at least 10ms, not 0s"),
        ("interval: 2h", "1:1: interval: must be at most 1h, not 2h"),
        ("interval: [5s]", "1:1: interval: ['5s'] is not a number with a unit (write it like 5s)"),
        ("interval: 1:30", "1:1: interval: '1:30' is not a number with a unit (write it like 5s)"),
        ("mode: true", "1:1: mode: must be 'enforce' or 'observe', not true"),
        ("history: ten", "1:1: history: must be a valid integer, not the string 'ten'"),
        ("history: true", "1:1: history: must be a valid integer, not true"),
        ("history: 999999999999999999999999999999", "1:1: history: must be at most 1000, not 999999999999999999999999999999"),
        ("root: etc", "1:1: root: must be a path that begins with /"),
        ("log_level: INFO", "1:1: log_level: must be 'debug', 'info', 'warning' or 'error', not the string 'INFO' (did you mean 'info'?)"),
        ("acme: {}", "1:1: acme: is a plugin, not a setting of mom (indent it under `plugins:`)"),
        ("root: !!python/object/apply:os.system [id]", "1:7: the tag !!python/object/apply:os.system is not possible here"),
        ("history: !!int ten", "1:10: the tag !!int is not possible here: 'ten'"),
        ("12: x", "1:1: 12: there is no such setting"),
        ("[a]: x", "1:1: a key must be a string"),
        ("guests: 5", "1:1: guests: must be a mapping from guest patterns to settings"),
        ("guests: {a: 5}", "1:10: guests.a: the settings for guests must be a mapping"),
        ("? ", "1:2"),
        ("<<: {mode: observe}", '1:1: "<<": there is no such setting'),
    ],
)
def test_what_is_wrong_has_its_place_and_a_cure(acme, problems, line, told):
    found = problems(f"{line}\nplugins: {{acme: {{}}}}\n")
    assert any(problem.startswith(told) for problem in found), found


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("step: 0B", "must be more than 0B, not 0B"),
        ("step: 2GiB", "must be at most 1GiB, not 2GiB"),
        ("period: 5m", "must be at most 1m, not 5m"),
        ("count: null", "must be a valid integer, not nothing"),
        ("ratio: .nan", "must be a finite number, not nan"),
        ("kind: fa", "must be 'near' or 'far', not the string 'fa' (did you mean 'far'?)"),
        ("enabled: yes", "must be a valid boolean, not the string 'yes' (write true or false)"),
        ("path: 5", "must be a valid string, not 5 (write the value in quotes)"),
        ("either: [1]", "must be a valid integer, not a list; or it must be a valid string, not a list (write the value in quotes)"),
        ("names: a", "must be a list, not the string 'a'"),
        ("inner: 5", "must be a mapping, not 5"),
    ],
)
def test_a_plugins_settings_are_checked_like_moms_own(acme, problems, setting, told):
    (problem,) = problems(f"plugins:\n  acme:\n    {setting}\n")
    name = setting.partition(": ")[0]
    assert problem == f"3:5: plugins.acme.{name}: {told}"


def test_problems_inside_lists_and_mappings_are_told_where_they_are(acme, problems):
    assert problems("plugins:\n  acme:\n    names: [a,\n      5]\n    inner: {dept: 1}\n") == [
        "4:7: plugins.acme.names[1]: must be a valid string, not 5 (write the value in quotes)",
        "5:13: plugins.acme.inner.dept: there is no such setting (did you mean 'depth'?)",
    ]


def test_a_missing_setting_has_its_place_and_description(shelf, problems):
    inner = 'class Door(PluginSettings):\n    key: str\n    """Its key."""\n'
    body = 'class Settings(PluginSettings):\n    where: str\n    """Which one."""\n    door: Door | None = None\n'
    shelf.add_plugin("needy", body, before=inner)
    assert problems("plugins:\n  needy: {door: {}}\n") == [
        "2:3: plugins.needy.where: is missing (Which one.)",
        "2:11: plugins.needy.door.key: is missing (Its key.)",
    ]
    (problem,) = problems("plugins:\n  needy: 5\n")
    assert problem == "2:3: plugins.needy: the settings of a plugin must be a mapping (write `needy: {}` for the defaults)"


@pytest.mark.parametrize("settings", ["token: 12345", "token: {sesame: 1}", "token: sesame, tokne: sesame"])
def test_a_secret_is_never_told(acme, problems, settings):
    told = problems(f"plugins:\n  acme: {{{settings}}}\n")
    assert "token" in told[0]
    assert not any("12345" in problem or "sesame" in problem for problem in told)


# --- guests --------------------------------------------------------------------------------------------------------------------


def test_all_patterns_that_match_count_and_later_ones_override(acme, config):
    find = config(
        """
        plugins: {acme: {}}
        guests:
          "*": {share: 2, floor: 1GiB}
          "db-*": {share: 5}
          "db-[0-9]": {floor: 2GiB}
          "web": {}
        """
    ).guest_settings("acme")
    read = {name: (find(Guest("id", name)).share, find(Guest("id", name)).floor) for name in ("x", "db-a", "db-1", "DB-1", "web")}
    assert read == {"x": (2, 1 << 30), "db-a": (5, 1 << 30), "db-1": (5, 2 << 30), "DB-1": (2, 1 << 30), "web": (2, 1 << 30)}


def test_a_pattern_may_be_of_a_property_and_its_name_is_one(acme, config):
    find = config(
        """
        plugins: {acme: {}}
        guests:
          "flavor=m1.*": {share: 2}
          "flavor=m1.large": {share: 3}
          "project=acme": {floor: 1GiB}
          "tags=web": {floor: 2GiB}
          "name=a=b": {share: 9}
          "uuid=*": {floor: 4GiB}
        """
    ).guest_settings("acme")

    def read(name="x", **properties):
        found = find(Guest("id", name, properties=properties))
        return found.share, found.floor

    assert read(flavor="m1.small") == (2, None)
    assert read(flavor="m1.large", project="acme") == (3, 1 << 30)
    assert read(flavor="M1.large", project="acme-2") == (1, None), "the whole text, case and all"
    assert read(tags=("db", "web")) == read(tags=["db", "web"]) == (1, 2 << 30), "of a list, one must match"
    assert read(tags=("web-2", 7), flavor=None, project=3) == (1, None), "what is no text matches nothing"
    assert read("a=b") == (9, None)
    assert read("flavor=m1.large") == (1, None), "a name is not looked at for properties"
    assert read(uuid="u1") == (1, 4 << 30)


def test_of_contradicting_patterns_the_last_counts(shelf, config, caplog):
    shelf.add_plugin(
        "both",
        """
        class GuestSettings(GuestSettings):
            low: int = 0
            high: int = 100

            @model_validator(mode="after")
            def ordered(self):
                if self.low > self.high:
                    raise ValueError("low is above high")
                return self
        """,
        before="from pydantic import model_validator",
    )
    find = config('plugins: {both: {}}\nguests: {"*": {low: 50}, "db*": {high: 20}}').guest_settings("both")
    assert find(Guest("id", "db1")).model_dump() == {"low": 0, "high": 20}
    assert find(Guest("id", "db2")).model_dump() == {"low": 0, "high": 20}
    assert find(Guest("id", "x")).model_dump() == {"low": 50, "high": 100}
    assert caplog.text.count("contradict") == 1


# --- random files ------------------------------------------------------------------------------------------------------------------

WORDS = (
    "plugins: guests: interval: acme: { } [ ] - &a *a !!str !!python/x ' \" | > # <<: 5s 1e400 0x1g --- ... \\ \\ud800 null ~ : , é ? "
    "\ufeff %YAML"
)
PIECES = st.sampled_from([*WORDS.split(), "\n", "  ", "\t", " ", "\u2028"])


@pytest.mark.long
@given(text=st.one_of(st.text(), st.binary(max_size=200), st.lists(PIECES, max_size=30).map("".join)))
@example(text='"\\ud800": 1')
@example(text='plugins: {acme: {names: ["\\udfff"]}}')
@example(text="? [a, {b: c}]\n: d")
@example(text="plugins: {? {} : 1}")
@example(text="!<tag:yaml.org,2002:map> x")
@example(text="history: 0o777777777777777777777777777")
@example(text="history: " + "9" * 5000)
@example(text="history: 0x" + "f" * 5000)
@example(text="!!python/object/apply:os.system [true]")
@example(text="= : 1")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_file_gives_a_configuration_or_problems(acme, tmp_path, text):
    file = tmp_path / "any.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        answer = list(load_config(file).plugins)
    except ConfigError as error:
        answer = [str(problem) for problem in error.problems]
    assert answer
    assert not any("\n" in line for line in answer)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["acme", "step", "*"]), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.long
@given(mapping=st.dictionaries(st.sampled_from(["plugins", "guests", "interval", "mode", "history", "root", "x"]), VALUES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_mapping_gives_a_configuration_or_problems(acme, mapping):
    try:
        answer = list(load_config({"plugins": {"acme": {}}, **mapping}).plugins)
    except ConfigError as error:
        answer = [str(problem) for problem in error.problems]
    assert answer


def test_the_settings_in_force_read_back_as_the_same_configuration_and_hide_secrets(shelf):
    settings = """
        class Settings(PluginSettings):
            token: SecretStr = SecretStr("")
            key: SecretBytes = SecretBytes(b"")
            others: frozenset[SecretStr] = frozenset()
            by_name: dict[str, SecretStr] = {}

        class GuestSettings(GuestSettings):
            share: int = 1
        """
    shelf.add_plugin("one", settings, before="from pydantic import SecretBytes, SecretStr")
    config = load_config({"interval": "7s", "plugins": {"one": {"deadline": "4s"}}, "guests": {"db-*": {"share": 2}}})
    in_force = config.in_force()
    assert (in_force["interval"], in_force["guests"]) == ("7s", {"db-*": {"share": 2}})
    assert load_config(in_force).in_force() == in_force
    secrets = {"token": "hush-1", "key": "hush-ü", "others": ["hush-3", "hush-4"], "by_name": {"a": "hush-5"}}
    config = load_config({"plugins": {"one": secrets}})
    assert "hush" not in str(config.in_force())
    assert "hush" not in str(config)
    assert load_config(config.given).plugins["one"].settings == config.plugins["one"].settings


@pytest.mark.parametrize(
    ("text", "size", "share", "shown"),
    [("6GiB", 6 << 30, None, "6GiB"), ("75%", None, 0.75, "75%"), ("33.3 %", None, 0.333, "33.3%"), ("0", 0, None, "0B")],
)
def test_a_portion_is_a_size_or_a_share(text: str, size: int | None, share: float | None, shown: str) -> None:
    portion = Portion.parse(text)
    assert (portion.size, portion.share and round(portion.share, 9)) == (size, share)
    assert str(portion) == shown
    assert Portion.parse(str(portion)) == portion
    assert portion.kib_of(None) == (None if size is None else size / 1024)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6", "has no unit"),
        ("101%", "is more than 100%"),
        ("6GiB%", "is not a number with a unit"),
        ("six", "is not a number with a unit"),
        (None, "not a number with a unit"),
    ],
)
def test_what_is_no_portion_is_refused_with_an_example(text: object, message: str) -> None:
    with pytest.raises(UnitError, match=re.escape(message)) as refused:
        Portion.parse(text)
    assert "%" in refused.value.hint


def test_the_settings_in_another_file_must_be_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="must be a mapping of settings"):
        read_settings(tmp_path / "other.yaml", GuestSettings)
