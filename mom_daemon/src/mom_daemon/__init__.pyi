from .cli.frame import run_program as run_program
from .cli.moments import moment as moment
from .cli.options import (
    ExistingPath as ExistingPath,
    FiniteRange as FiniteRange,
    KeptPath as KeptPath,
    as_caller as as_caller,
    config_option as config_option,
    json_option as json_option,
)
from .cli.prose import brief as brief, print_prose as print_prose
from .cli.terminal import print_text as print_text, progress as progress, write_output as write_output
from .cli.verbs import Verb as Verb, VerbGroup as VerbGroup
from .amounts import amount as amount
from .guest_figures import guest_columns as guest_columns
from .json_encoder import json_text as json_text
from .owner import become_owner as become_owner, folders_of as folders_of, other_owner as other_owner, warn_of_file as warn_of_file
from .report_models import (
    ConditionModel as ConditionModel,
    AnyValue as AnyValue,
    CycleModel as CycleModel,
    DecisionModel as DecisionModel,
    EntityModel as EntityModel,
    GuestColumnModel as GuestColumnModel,
    Mode as Mode,
    OutcomeModel as OutcomeModel,
    StandingProblemModel as StandingProblemModel,
    REPORT_FORMAT as REPORT_FORMAT,
    ReportDocument as ReportDocument,
    RevisionModel as RevisionModel,
    Seconds as Seconds,
    SourceModel as SourceModel,
    StatusModel as StatusModel,
    Time as Time,
    cycle_model as cycle_model,
    decision_model as decision_model,
    described as described,
    outcome_model as outcome_model,
    problem_model as problem_model,
    report_document as report_document,
    revision_model as revision_model,
    standing_problems as standing_problems,
    status_document as status_document,
    told as told,
)
from .run import daemon_log as daemon_log, run_daemon as run_daemon
from .status import status_of as status_of
from .look.alike import CommonProblem as CommonProblem, common_problems as common_problems
from .plugins.declared import declarations_of as declarations_of
from .explain.explainer import (
    About as About,
    Explainer as Explainer,
    ExplanationPart as ExplanationPart,
    Sentence as Sentence,
    SentencePlace as SentencePlace,
)
from .explain.explanation import Explainers as Explainers
from .config.imported import Imported as Imported, ImportedSection as ImportedSection, Importer as Importer, read_foreign as read_foreign
from .look.running import NoSuchGuest as NoSuchGuest, NotRunning as NotRunning, RunningMom as RunningMom, find_guest as find_guest
from .look.sources import ask as ask, recording as recording
from .look.status_part import StatusPart as StatusPart
from .look.status_file import guests_unknown as guests_unknown, problems_of as problems_of
from .cli.tables import TableColumn as TableColumn, print_table as print_table
from .top.columns import age as age, percent as percent, short as short, sparkline as sparkline
from .top.looking import Looking as Looking
from .top.rows import Row as Row, by_name as by_name
from .top.table import (
    below_head as below_head,
    heading as heading,
    help_lines as help_lines,
    in_lines as in_lines,
    memory_line as memory_line,
    too_small as too_small,
    wrapped as wrapped,
)
from .top.terminal import Line as Line, cell as cell, shortened as shortened
from .top.watch import terminal_for as terminal_for, watch as watch
