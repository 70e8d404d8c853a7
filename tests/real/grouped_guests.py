"""Real guests that libvirt puts into control groups of their own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from guest_image import CannotBuild, build, cache_folder
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, not_here, once

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def grouped_guests(controllers: Sequence[str], programs: Path | None = None) -> Iterator[Lab]:
    """Starts guests on a libvirtd that gives each a group in the hierarchies (v1) of these controllers; no group is left.

    :param programs: as for `PrivateLibvirtd`
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
                with suppress(OSError):  # another process may have begun to use it
                    machine.rmdir()
