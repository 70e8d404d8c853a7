from .eviction.plugin import EvictionPlugin as EvictionPlugin
from .eviction.protocols import (
    LifecycleControl as LifecycleControl,
    MigrationControl as MigrationControl,
    MoveJob as MoveJob,
    Mover as Mover,
    MoveReport as MoveReport,
    MoveStanding as MoveStanding,
)
from .plugin import SlaPlugin as SlaPlugin
