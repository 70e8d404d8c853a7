from .cli.frame import run_program as run_program
from .formats import moment as moment
from .cli.options import KeptPath as KeptPath, as_caller as as_caller, config_option as config_option, json_option as json_option
from .cli.output import brief as brief, print_prose as print_prose
from .cli.output import print_text as print_text, progress as progress
from .cli.verbs import Verb as Verb, VerbGroup as VerbGroup
from .formats import amount as amount
from .guest_figures import guest_columns as guest_columns
from .formats import json_text as json_text
from .owner import become_owner as become_owner, other_owner as other_owner
from .run import Daemon as Daemon
from .plugins.declared import declarations_of as declarations_of
from .plugin_parts import About as About, Explainer as Explainer, ExplanationPart as ExplanationPart, Sentence as Sentence
from .explain.explanation import Explainers as Explainers
from .look.sources import NoSuchGuest as NoSuchGuest, NotRunning as NotRunning, find_guest as find_guest
from .look.sources import ask as ask, recording as recording
from .plugin_parts import RunningMom as RunningMom, StatusPart as StatusPart
from .cli.output import TableColumn as TableColumn, print_table as print_table
