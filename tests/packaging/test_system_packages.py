"""The RPMs and the container image, from the same tree as the Debian packages: reproducible bytes, contents, and mom in the image."""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from commands import run, scratch_script

import mom_core

pytestmark = pytest.mark.release

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
NOBODY = "65534:65534"


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    must = os.environ.get("MOM_REQUIRE_REAL") == "1" and os.geteuid() == 0
    return pytest.mark.skipif(bool(missing) and not must, reason=f"there is no {', '.join(missing)}")


@pytest.fixture(scope="module")
def rpm(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rpm")
    return Path(run(sys.executable, PACKAGING / "rpm/rpm.py", tree, folder / "one").splitlines()[-1])


@needs("rpmbuild")
def test_the_rpm_of_one_tree_has_the_same_bytes_each_time(tree: Path, rpm: Path, tmp_path: Path) -> None:
    other = Path(run(sys.executable, PACKAGING / "rpm/rpm.py", tree, tmp_path).splitlines()[-1])
    assert filecmp.cmp(rpm, other, shallow=False)


@needs("rpmbuild")
def test_the_rpm_holds_the_tree_and_folders_of_its_own(tree: Path, rpm: Path) -> None:
    (cockpit,) = rpm.parent.glob("cockpit-mom-*.noarch.rpm")
    held = set(run("rpm", "-qlp", rpm).splitlines())
    in_cockpit = set(run("rpm", "-qlp", cockpit).splitlines())
    assert {name for name in held | in_cockpit if name.startswith("/usr/share/cockpit/")} == in_cockpit
    wanted = {f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_file() or path.is_symlink()}
    moved = {name.replace("/zsh/vendor-completions/", "/zsh/site-functions/") for name in wanted}
    assert moved <= held | in_cockpit
    assert held - moved >= {"/etc/mom", "/usr/lib/mom"}
    assert not held & {"/usr", "/usr/bin", "/etc", "/usr/lib/systemd/system"}, "these are the system's"


@needs("rpmbuild")
def test_the_rpm_needs_the_systems_python_and_libvirt_and_offers_nothing_of_its_environment(rpm: Path) -> None:
    needed = run("rpm", "-qp", "--requires", rpm).splitlines()
    assert {"python3 >= 3.11", "python3 < 3.15", "python3-libvirt"} <= set(needed)
    assert [line.split(" ")[0] for line in run("rpm", "-qp", "--provides", rpm).splitlines() if not line.startswith("mom(")] == ["mom"]


@needs("rpmbuild")
def test_removing_the_rpm_puts_everything_back_and_an_upgrade_hands_over(rpm: Path) -> None:
    """The scripts are only checked as shell. They equal those of the Debian package, which have tests."""
    scripts = dict(
        re.findall(r"^(\w+) scriptlet \(using /bin/sh\):\n(.*?)(?=^\w+ scriptlet|\Z)", run("rpm", "-qp", "--scripts", rpm), re.M | re.S)
    )
    assert set(scripts) == {"postinstall", "preuninstall", "postuninstall"}
    for text in scripts.values():
        subprocess.run(["sh", "-n"], input=text, text=True, timeout=60, check=True)
    assert "mom restore -c /etc/mom/mom.yaml --as-left /run/mom" in scripts["preuninstall"]
    assert "mom hook remove" in scripts["preuninstall"]
    assert "systemctl try-restart mom-helper.service mom-libvirt-helper.service mom.service" in scripts["postuninstall"], (
        "the new mom asks the new helpers"
    )
    assert "[ ! -e /etc/mom/mom.yaml ]" in scripts["postinstall"]


@pytest.mark.parametrize(("active", "put_back"), [(True, False), (False, False), (True, True)])
def test_an_rpm_that_cannot_go_leaves_a_mom_that_ran_running(tmp_path: Path, active: bool, put_back: bool) -> None:
    """Otherwise, guests would keep sizes that mom could not restore."""
    (text,) = re.findall(r"^%preun\n(.*?)(?=^%)", (PACKAGING / "rpm/mom.spec").read_text(), re.M | re.S)
    script, environment = scratch_script(text, tmp_path, ("mom", "systemctl"))
    for name, words, fails in (("systemctl", "*is-active*", not active), ("mom", "restore*", not put_back)):
        with (tmp_path / "bin" / name).open("a") as program:
            program.write(f'case "$*" in {words}) exit {int(fails)};; esac\n')
    for name in ("run/systemd/system", "var/lib/mom"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "var/lib/mom/ledger.json").write_text("")
    done = subprocess.run(["sh", str(script), "0"], capture_output=True, text=True, timeout=60, env=environment, check=False)
    called = (tmp_path / "called").read_text()
    assert done.returncode == (0 if put_back else 1), done.stderr
    assert ("systemctl start mom.service" in called) is (active and not put_back)
    assert ("systemctl disable mom.service" in called) is put_back, "it is started with the host as before"


@needs("rpmbuild", "rpmlint")
def test_rpmlint_finds_nothing_that_is_not_meant_to_be_so(rpm: Path) -> None:
    said = run("rpmlint", "-c", PACKAGING / "rpm/rpmlint.toml", *sorted(rpm.parent.glob("*.rpm")))
    assert re.search(r"0 errors, 0 warnings", said), said


@pytest.fixture(scope="module")
def image(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("image") / "mom.oci.tar"
    run(sys.executable, PACKAGING / "oci/image.py", tree, file)
    return file


of_the_image = [needs("mmdebstrap", "skopeo", "umoci"), pytest.mark.skipif(os.geteuid() != 0, reason="only root can make and enter a root")]


class TestImage:
    pytestmark = of_the_image

    def test_it_says_what_it_is_and_runs_without_root(self, image: Path) -> None:
        name = f"mom:{mom_core.__version__}"
        about = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{image}:{name}"))
        assert (about["architecture"], about["os"]) == ("amd64", "linux")
        assert about["config"]["Entrypoint"] == ["/usr/bin/mom"]
        assert about["config"]["User"] == NOBODY
        assert about["config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"

    def test_the_image_of_one_tree_has_the_same_bytes_each_time(self, tree: Path, image: Path, tmp_path: Path) -> None:
        run(sys.executable, PACKAGING / "oci/image.py", tree, tmp_path / "other.tar")
        assert filecmp.cmp(image, tmp_path / "other.tar", shallow=False)

    def test_mom_demonstrates_itself_in_it_and_can_coordinate_a_fleet(self, image: Path, tmp_path: Path) -> None:
        root = unpacked(image, tmp_path)
        with mounted(root):
            inside = ("chroot", f"--userspec={NOBODY}", root, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "/usr/bin/mom")
            assert "What to type next" in run(*inside, "demo", "--seconds", "3")
            assert "Usage: mom fleet coordinator" in run(*inside, "fleet", "coordinator", "--help")
            assert run(*inside, "--version").startswith("mom ")

    @needs("rpmbuild")
    def test_the_rpm_is_installed_runs_and_leaves_its_configuration_only(self, image: Path, rpm: Path, tmp_path: Path) -> None:
        """RPM runs the scripts in the image's Debian, from which mom was removed."""
        root = unpacked(image, tmp_path)
        shutil.rmtree(root / "usr/lib/mom")
        for name in ("mom", "momd"):
            (root / "usr/bin" / name).unlink()
        with mounted(root):
            run("rpm", "--root", root, "--initdb")
            run("rpm", "--root", root, "--nodeps", "--install", rpm)
            assert "\nmode: observe\n" in (root / "etc/mom/mom.yaml").read_text(), "nothing is touched before the operator says so"
            assert list(root.glob("usr/lib/mom/lib/python3/site-packages/mom_core/__pycache__/*.pyc"))
            assert run("chroot", root, "/usr/bin/mom", "--version") == f"mom {mom_core.__version__}\n"
            (root / "etc/mom/mom.yaml").write_text("# the operator's\n")
            run("rpm", "--root", root, "--nodeps", "--upgrade", "--force", rpm)
            assert (root / "etc/mom/mom.yaml").read_text() == "# the operator's\n"
            run("rpm", "--root", root, "--nodeps", "--erase", "mom")
        assert not (root / "usr/lib/mom").exists()
        assert not (root / "usr/bin/mom").exists()
        assert [path.name for path in (root / "etc/mom").iterdir()] == ["mom.yaml"]


@pytest.fixture(scope="module")
def node_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node-image")
    run(sys.executable, PACKAGING / "tree.py", folder / "tree", "kubevirt")
    run(sys.executable, PACKAGING / "oci/image.py", "--node", folder / "tree", folder / "mom-node.oci.tar")
    return folder / "mom-node.oci.tar"


class TestNodeImage:
    """tests/real/test_real_kubernetes_node.py tests it on a node, also from an image: `MOM_NODE_ROOT=ROOTFS`."""

    pytestmark = of_the_image

    def test_it_has_what_the_daemonset_starts_and_mom_needs_there_and_no_more(self, node_image: Path, tmp_path: Path) -> None:
        about = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{node_image}:mom-node:{mom_core.__version__}"))
        assert (about["config"]["Entrypoint"], about["config"]["Cmd"]) == (["/usr/bin/mom-node"], ["run"])
        root = unpacked(node_image, tmp_path)
        with mounted(root):
            inside = ("chroot", root, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8")
            names = {one["name"] for one in json.loads(run(*inside, "mom", "plugin", "list", "--json"))}
            assert {"host", "kubevirt", "balloon", "offload", "policy", "http", "record"} <= names
            assert not names & {"libvirt", "vdsm", "sim", "fleet"}
            assert run(*inside, "/usr/lib/mom/bin/python3", "-c", "import libvirt; print(libvirt.getVersion())").strip().isdigit()
            for program in ("flock", "stat", "sed", "setpriv"):
                run(*inside, "sh", "-c", f"command -v {program}")
        assert not list(root.glob("usr/lib/mom/lib/python3/site-packages/**/*.cpython-313-*.so"))
        assert node_image.stat().st_size < 90 << 20


def unpacked(image: Path, folder: Path) -> Path:
    """Return the root of a container of this image."""
    run("skopeo", "copy", "--quiet", f"oci-archive:{image}", f"oci:{folder}/oci:mom")
    run("umoci", "unpack", "--image", f"{folder}/oci:mom", folder / "bundle")
    return folder / "bundle/rootfs"


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """Mounts of every container: /proc and shared memory."""
    with ExitStack() as mounts:
        for kind, place, options in (("proc", "proc", "nosuid"), ("tmpfs", "dev/shm", "mode=1777")):
            (root / place).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", kind, "-o", options, kind, root / place], timeout=60, check=True)
            mounts.callback(run, "umount", root / place)
        yield
