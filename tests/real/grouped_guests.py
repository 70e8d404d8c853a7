"""Real guests in control groups."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from guest_image import CannotBuild, build, cache_folder
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, not_here, once

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def grouped_guests(controllers: Sequence[str], programs: Path | None = None) -> Iterator[Lab]:
    """Yield a lab on a libvirtd that gives each guest a group in the hierarchies (v1) of these controllers. Remove the groups at the end.

    :param programs: see `PrivateLibvirtd`
    """
    machines = [ROOT / controller / "machine" for controller in controllers]
    before = [machine.exists() for machine in machines]
    own = None
    try:
        own = PrivateLibvirtd(cache_folder(), controllers=controllers, programs=programs)
        own.start()
        yield Lab(own, build(), suffix=once())
    except (CannotStart, CannotBuild) as error:
        not_here(f"there is no real hypervisor: {error}")
    finally:
        if own is not None:
            own.stop()
        for machine, was in zip(machines, before, strict=True):
            if not was:
                with suppress(OSError):  # another process may use it now
                    machine.rmdir()
