"""Policies for vdsm, also without spaces, as vdsm writes its own. `cases/vdsm.yaml` has their decisions."""

import re

from policy_cases import cases_in

from mom_core import Snapshot
from mom_plugins_policy import Policy


def squeezed(text: str) -> str:
    """Return a policy without comments and without unneeded white space: `(if(< a b){x}{y})`."""
    text = re.sub(r"#[^\n]*", "", text)
    return re.sub(r"\s+", " ", re.sub(r"\s*([(){}\[\]])\s*", r"\1", text)).strip()


def decided(policy: Policy, taken: Snapshot) -> dict[tuple[str, str], object]:
    return {(one.entity.name, one.control): one.value for one in policy.evaluate(taken).decisions}


def test_without_a_space_too_many_they_decide_the_same() -> None:
    for case in cases_in("vdsm.yaml"):
        tight = {name: squeezed(text) for name, text in case.texts.items()}
        assert all("}{" in text and "(if(" in text for name, text in tight.items() if name == "02-balloon")
        assert decided(Policy.compile(tight, case.policy.declarations), case.taken) == decided(case.policy, case.taken), case.name
