"""The policies for vdsm as vdsm's own are written, without spaces. What they decide, `cases/vdsm.yaml` says."""

import re
from pathlib import Path

from policy_cases import cases_in

from mom_core import Snapshot
from mom_plugins_policy import Policy

FOLDER = Path(__file__).parents[2] / "examples/policies"


def squeezed(text: str) -> str:
    """Without comments, and without white space that the language does not need: `(if(< a b){x}{y})`."""
    text = re.sub(r"#[^\n]*", "", text)
    return re.sub(r"\s+", " ", re.sub(r"\s*([(){}\[\]])\s*", r"\1", text)).strip()


def test_there_are_the_files_that_vdsm_has() -> None:
    names = ["00-defines", "01-parameters", "02-balloon", "03-ksm", "04-cputune", "05-iotune"]
    assert sorted(path.stem for path in (FOLDER / "vdsm").glob("*.policy")) == names
    assert re.fullmatch(r"#[^\n]*", (FOLDER / "vdsm/01-parameters.policy").read_text())


def decided(policy: Policy, taken: Snapshot) -> dict[tuple[str, str], object]:
    return {(one.entity.name, one.control): one.value for one in policy.evaluate(taken).decisions}


def test_without_a_space_too_many_they_decide_the_same() -> None:
    for case in cases_in("vdsm.yaml"):
        tight = {name: squeezed(text) for name, text in case.texts.items()}
        assert all("}{" in text and "(if(" in text for name, text in tight.items() if name == "02-balloon")
        assert decided(Policy.compile(tight, case.policy.declarations), case.taken) == decided(case.policy, case.taken), case.name
