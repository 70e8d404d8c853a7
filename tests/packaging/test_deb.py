"""Content of mom's Debian packages. `nox -s fresh` tests their installation."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import MadeOnce, run, scratch_script

ROOT = Path(__file__).parents[2]
PACKAGES = "usr/lib/mom/lib/python3/site-packages"


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest, made_once: MadeOnce) -> Path:
    if shutil.which("dpkg-deb") is None or shutil.which("strip") is None:
        pytest.skip("dpkg-deb and strip are Debian's packages dpkg and binutils")
    tree = request.getfixturevalue("tree")
    (made,) = made_once("deb", lambda folder: run(sys.executable, ROOT / "packaging/deb/deb.py", "--quick", tree, folder)).glob("mom_*.deb")
    return made


@pytest.fixture(scope="session")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a system with the package's files."""
    folder = tmp_path_factory.mktemp("root")
    run("dpkg-deb", "--extract", package, folder)
    return folder


def made_of_a_commit(seconds: int, folder: Path) -> Path:
    """Build a nearly empty package of a commit at that time."""
    tree = folder / "tree"
    for name in ("usr/lib/mom/lib/python3/site-packages/mom_core-0.1.0.dist-info/METADATA", "usr/share/cockpit/mom/manifest.json"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text("")
    (tree / "usr/share/doc/mom").mkdir(parents=True)
    (tree / "usr/share/doc/mom/CHANGELOG.md.gz").write_bytes(b"")
    os.utime(tree / "usr", (seconds, seconds))
    run(sys.executable, ROOT / "packaging/deb/deb.py", tree, folder)
    (made,) = folder.glob("mom_*.deb")
    return made


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's package dpkg")
def test_apt_takes_what_is_made_of_a_later_commit_for_newer(tmp_path: Path) -> None:
    earlier, later = (made_of_a_commit(seconds, tmp_path / str(seconds)) for seconds in (1_800_000_000, 1_800_000_060))
    old, new = (run("dpkg-deb", "--field", path, "Version").strip() for path in (earlier, later))
    for before, after in (("0.1.0-1", old), (old, new), (new, "0.1.1-20200101.000000")):
        run("dpkg", "--compare-versions", before, "lt", after)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's package dpkg")
def test_a_host_without_libvirt_gets_none(tmp_path: Path) -> None:
    """Debian's libvirt module recommends a daemon, which recommends all of QEMU."""
    wanted = run("dpkg-deb", "--field", made_of_a_commit(1_800_000_000, tmp_path), "Depends", "Recommends")
    assert "libvirt" not in wanted
    assert "qemu" not in wanted


def test_what_is_fetched_comes_from_where_pip_is_told_to_fetch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("UV_") or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_INSECURE_HOST", "mine")
    monkeypatch.syspath_prepend(ROOT / "packaging")
    told = importlib.import_module("tree").as_pip_is_told(
        ":env:.index-url='https://three/simple'\nglobal.cert='/etc/ca.pem'\nglobal.index-url='https://one/simple'\nglobal.timeout='3'\n"
        "global.trusted-host='other'\ninstall.index-url='https://two/simple'\nglobal.extra-index-url='\\nhttps://a/simple\\nfile:///etc'\n"
        "install.find-links='/etc /no-such-folder file:///no-such-folder file:///etc'\n"
    )
    assert told == {
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_DEFAULT_INDEX": "https://three/simple",
        "UV_INDEX": "https://a/simple file:///etc",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/etc,file:///etc",
    }


@pytest.mark.release
@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_nothing(package: Path) -> None:
    (cockpit,) = package.parent.glob("cockpit-mom_*_all.deb")
    assert run("lintian", "--allow-root", package, cockpit) == ""


def test_the_copyright_file_has_a_paragraph_for_each_embedded_distribution(installed: Path) -> None:
    text = (installed / "usr/share/doc/mom/copyright").read_text()
    folder = installed / PACKAGES
    others = {path.name for path in folder.glob("*.dist-info") if not path.name.startswith("mom_")}
    assert {name.rpartition("/")[2].removesuffix("*") for name in re.findall(r"\S+\.dist-info\*", text)} == others
    assert text.count("\nLicense: ") == len(others) + 1


def test_all_is_roots_and_nothing_is_anywhere_else_than_debian_wants_it(package: Path) -> None:
    lines = [line.split(None, 5) for line in run("dpkg-deb", "--contents", package).splitlines()]
    assert {owner for _, owner, *_ in lines} == {"root/root"}
    assert {mode for mode, *_ in lines if not mode.startswith("l")} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    tops = {"/".join(name.split(" -> ")[0].split("/")[1:3]) for *_, name in lines}
    assert tops <= {"", "usr", "usr/", "usr/bin", "usr/lib", "usr/share"}, "nothing in /etc: the configuration is the operator's"


def test_it_needs_the_interpreters_that_its_modules_in_c_are_built_for(package: Path, installed: Path) -> None:
    wanted = run("dpkg-deb", "--field", package, "Depends")
    low, high = (tuple(map(int, re.findall(rf"python3 \({sign} 3\.(\d+)~\)", wanted))) for sign in (">=", "<<"))
    built = {int(minor) for minor in re.findall(r"cpython-3(\d+)-", "\n".join(map(str, installed.rglob("*.so"))))}
    assert built == set(range(*low, *high))
    assert {path.name for path in (installed / "usr/lib/mom/lib").glob("python3.*")} == {f"python3.{minor}" for minor in built}


def test_it_brings_all_that_a_host_may_need_and_no_byte_code(installed: Path) -> None:
    project = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]
    wanted = {requirement.partition("==")[0].replace("-", "_") for requirement in project["optional-dependencies"]["all"]} | {"mom_core"}
    assert {path.name.partition("-")[0] for path in (installed / PACKAGES).glob("mom_*.dist-info")} == wanted
    assert not [path for path in installed.rglob("*") if path.suffix == ".pyc" or path.name in {"RECORD", "direct_url.json"}]


def test_its_programs_are_started_by_the_interpreter_of_its_own_environment(installed: Path) -> None:
    assert (installed / "usr/lib/mom/bin/python3").readlink() == Path("../../../bin/python3")
    assert "include-system-site-packages = false" in (installed / "usr/lib/mom/pyvenv.cfg").read_text()
    for name in ("mom", "momd"):
        program = (installed / "usr/bin" / name).resolve()
        assert program == installed / "usr/lib/mom/bin" / name
        assert program.read_text().startswith("#!/usr/lib/mom/bin/python3 -I\n")


def test_its_units_start_what_it_has(installed: Path) -> None:
    for unit in (
        "mom.service",
        "mom-restore.service",
        *(f"mom-{name}helper.{kind}" for name in ("", "libvirt-") for kind in ("service", "socket")),
    ):
        text = (installed / "usr/lib/systemd/system" / unit).read_text()
        assert "/opt/" not in text
        assert set(re.findall(r"/usr/bin/mom\w*", text)) == ({"/usr/bin/mom"} if "helper" not in unit else set())
    helper = (installed / "usr/lib/systemd/system/mom-helper.service").read_text()
    programs = set(re.findall(r"/usr/bin/python3 -I -S (/\S+) ", helper))
    assert len(programs) == 1, "what serves is what puts back"
    (program,) = programs
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", f"{installed}{program}", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "serve --user NAME" in done.stderr, "it runs with the standard library only"
    libvirts = (installed / "usr/lib/systemd/system/mom-libvirt-helper.service").read_text()
    assert f"ExecStart=/usr/bin/python3 -I {program} serve-libvirt --user mom\n" in libvirts, "it finds the system's libvirt module"


def test_root_declares_what_the_helper_may_do_and_who_mom_is(installed: Path) -> None:
    assert "[knob /sys/kernel/mm/ksm/run]" in (installed / "usr/lib/mom/helper.d/mom.conf").read_text()
    assert re.search(r"^u mom - ", (installed / "usr/lib/sysusers.d/mom.conf").read_text(), re.M)
    assert "org.libvirt.unix.monitor" in (installed / "usr/share/polkit-1/rules.d/60-mom.rules").read_text()
    assert {path.name for path in (installed / "usr/lib/mom/drop-ins").iterdir()} == {"network.conf", "numa-balancing.conf"}


def test_links_in_its_pages_lead_to_what_it_has_or_to_the_repository(installed: Path) -> None:
    folder = installed / "usr/share/doc/mom"
    pages = [*folder.rglob("*.md")]
    assert {folder / "README.md", folder / "docs/service.md"} <= set(pages)
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
            assert "://" in target or (page.parent / target).exists(), f"{page.relative_to(folder)}: {target}"


def test_the_systems_libvirt_is_found_and_nothing_else_of_the_system(installed: Path, tmp_path: Path) -> None:
    """A folder stands for the system's."""
    for name in ("libvirt", "libvirtmod", "other"):
        (tmp_path / f"{name}.py").write_text("")
    program = (
        "import mom_system_libvirt as ours; ours.FOLDERS[:] = [sys.argv[1]]; import importlib.util as util;"
        "print(util.find_spec('libvirt').origin, util.find_spec('libvirtmod').origin, util.find_spec('other'))"
    )
    command = (sys.executable, "-S", "-B", "-c", f"import sys; sys.path.insert(0, sys.argv[2]); {program}", tmp_path, installed / PACKAGES)
    assert run(*command).split() == [str(tmp_path / "libvirt.py"), str(tmp_path / "libvirtmod.py"), "None"]


def test_mom_in_cockpit_is_a_package_of_its_own_that_goes_with_this_mom(package: Path, installed: Path, tmp_path: Path) -> None:
    (cockpit,) = package.parent.glob("cockpit-mom_*_all.deb")
    fields = run("dpkg-deb", "--field", cockpit, "Version", "Depends")
    version = run("dpkg-deb", "--field", package, "Version").strip()
    assert f"Version: {version}\n" in fields
    assert f"mom (= {version})" in fields
    assert not (installed / "usr/share/cockpit").exists(), "a host without Cockpit has nothing of it"
    run("dpkg-deb", "--extract", cockpit, tmp_path)
    folder = tmp_path / "usr/share/cockpit/mom"
    loaded = re.findall(r'(?:src|href)="([\w/][\w./-]+)"', (folder / "index.html").read_text())
    assert {"page/page.js", "in_cockpit.js"} <= set(loaded)
    assert all((folder / name).is_file() for name in ("manifest.json", *loaded))


@pytest.mark.parametrize(("call", "status"), [("remove", 1), ("upgrade", 0)])
def test_hooks_that_ask_mom_before_guests_start_go_with_it(tmp_path: Path, call: str, status: int) -> None:
    """mom removes its hooks. A hook that guests of Proxmox VE use remains, and mom is removed nevertheless."""
    log = tmp_path / "called"
    for name in ("mom", "py3clean", "deb-systemd-invoke"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {log}\ncase "$0 $1" in *mom\\ hook) exit {status};; esac\n')
        program.chmod(0o755)
    run("sh", ROOT / "packaging/deb/prerm", call, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    called = log.read_text() if log.exists() else ""
    wanted = call == "remove"
    assert [f"mom hook remove {platform}\n" in called for platform in ("libvirt", "proxmox")] == [wanted, wanted]


def test_a_mom_of_another_installation_is_not_asked_when_the_package_goes(tmp_path: Path) -> None:
    """The other mom is a program in /usr/local/bin whose virtual environment has no interpreter."""
    script, environment = scratch_script((ROOT / "packaging/deb/prerm").read_text(), tmp_path, ("py3clean", "deb-systemd-invoke"))
    broken = tmp_path / "bin/mom"
    broken.write_text("#!/opt/mom/bin/nosuch\n")
    broken.chmod(0o755)
    (tmp_path / "var/lib/mom").mkdir(parents=True)
    (tmp_path / "var/lib/mom/ledger.json").write_text("")
    run("sh", script, "remove", environment=environment)
    assert f"{tmp_path}/usr/lib/mom/bin/mom restore" in (tmp_path / "called").read_text()


@pytest.mark.parametrize(("program", "told"), [("/opt/mom/bin/mom", True), ("/usr/bin/mom", False)])
def test_it_says_when_systemd_goes_on_with_a_mom_of_a_virtual_environment(tmp_path: Path, program: str, told: bool) -> None:
    """The operator's copy of a unit in /etc starts the package's mom."""
    programs = ("py3compile", "getent", "useradd", "usermod", "deb-systemd-helper", "deb-systemd-invoke", "systemctl")
    script, environment = scratch_script((ROOT / "packaging/deb/postinst").read_text(), tmp_path, programs)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/mom.service").write_text(f"[Service]\nExecStart={program} run -c /etc/mom/mom.yaml\n")
    done = subprocess.run(["sh", str(script), "configure", ""], capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert ("still start the mom in /opt/mom" in done.stderr) is told
