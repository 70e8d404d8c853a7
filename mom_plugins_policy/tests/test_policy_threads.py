"""Policies that other threads change while a reload is under way: by what is in force until it is over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mom_core import Config, DefaultPolicy, Engine, FieldSpec, MomError, Scope, Unit, hookimpl
from mom_devkit import config_of
from mom_kvm import PolicyRefused, PolicyTexts


class Fast:
    """Declares a field, and brings a policy that reads it."""

    def __init__(self, settings: object, context: object) -> None:
        pass

    @hookimpl
    def mom_declare(self) -> list[FieldSpec | DefaultPolicy]:
        return [FieldSpec("speed", Unit.COUNT, Scope.HOST, "how fast it is"), DefaultPolicy("50_fast", "(defvar fast Host.speed)")]


def meanwhile(work: Callable[[], object], *, refused: bool = False) -> type:
    """A plugin with whose set-up something is done that comes from another thread, and which may have the reload refused."""

    class Meanwhile:
        def __init__(self, settings: object, context: object) -> None:
            pass

        @hookimpl
        def mom_setup(self) -> None:
            work()
            if refused:
                raise MomError("this is not taken")

    return Meanwhile


def config(folder: Path, **classes: type) -> Config:
    return config_of(folder, {"policy": {}, **classes})


def test_no_policy_is_put_in_force_that_goes_only_with_a_reload_that_is_then_refused(tmp_path: Path) -> None:
    said: list[MomError] = []

    with Engine(config(tmp_path)) as engine:
        policies = engine.service(PolicyTexts)
        assert policies is not None

        def work() -> None:
            for change in (
                lambda: policies.change({"10_mine": "(defvar mine Host.speed)"}, who="vdsm"),
                lambda: policies.reset(who="vdsm"),
            ):
                with pytest.raises(MomError) as refused:
                    change()
                said.append(refused.value)

        with pytest.raises(MomError, match="this is not taken"):
            engine.reload(config(tmp_path, fast=Fast, sets=meanwhile(work, refused=True)))
        assert isinstance(said[0], PolicyRefused)
        assert "mom is reloading its configuration" in str(said[1])
        assert not policies.state().texts
        assert policies.reset(who="vdsm") is policies.state()
