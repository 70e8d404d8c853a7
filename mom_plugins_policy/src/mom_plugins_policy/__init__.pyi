from .errors import (
    Fault as Fault,
    PolicyError as PolicyError,
)
from .limits import (
    PolicyLimits as PolicyLimits,
)
from .plugin import (
    PolicyPlugin as PolicyPlugin,
)
from .policy import (
    Policy as Policy,
    Result as Result,
)

__version__: str
