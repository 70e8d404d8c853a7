"""For any policy, file, request or answer of a guest, readers return a result or raise an expected error."""

import zipfile
from pathlib import Path

import pytest
import seeds
import targets

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    seeds.write(folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", targets.TARGETS)
def test_good_inputs_and_all_that_were_found_are_read_or_refused(name: str, good: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(targets, "SCRATCH", tmp_path)
    inputs = {path.name: path.read_bytes() for path in (good / name).iterdir()}
    assert inputs, "it begins with nothing"
    with zipfile.ZipFile(CORPUS / f"{name}.zip") as kept:
        inputs |= {entry: kept.read(entry) for entry in kept.namelist()}
    assert len(inputs) > 1, "nothing was kept"
    for entry, content in inputs.items():
        try:
            targets.TARGETS[name](content)
        except Exception as error:  # any error is a failure
            raise AssertionError(f"{entry} of {name}: {content[:200]!r}") from error
