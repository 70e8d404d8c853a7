from .language.errors import Fault as Fault, PolicyError as PolicyError
from .language.limits import PolicyLimits as PolicyLimits
from .plugin import PolicyPlugin as PolicyPlugin
from .language.policy import Policy as Policy, Result as Result
