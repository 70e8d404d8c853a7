from .eviction.plugin import EvictionPlugin as EvictionPlugin
from .eviction.movers.mover import (
    LifecycleControl as LifecycleControl,
    MigrationControl as MigrationControl,
    MoveJob as MoveJob,
    Mover as Mover,
    MoveReport as MoveReport,
    MoveStanding as MoveStanding,
)
from .plugin import SlaPlugin as SlaPlugin
