from .language.errors import Fault as Fault, PolicyError as PolicyError
from .plugin import PolicyPlugin as PolicyPlugin
from .language.policy import Policy as Policy, Result as Result
