from .cli.frame import run_program as run_program
from .cli.moments import moment as moment
from .cli.options import (
    ExistingPath as ExistingPath,
    FiniteRange as FiniteRange,
    KeptPath as KeptPath,
    as_caller as as_caller,
    config_argument as config_argument,
    config_option as config_option,
    json_option as json_option,
)
from .cli.output import write_output as write_output
from .cli.hints import program as program
from .cli.prose import brief as brief, print_prose as print_prose
from .cli.terminal import print_text as print_text, progress as progress
from .cli.verbs import Verb as Verb, VerbGroup as VerbGroup
from .amounts import amount as amount
from .guest_figures import guest_columns as guest_columns
from .json_encoder import json_text as json_text
from .lacks import lacking as lacking
from .owner import (
    became as became,
    become_configured_owner as become_configured_owner,
    become_owner as become_owner,
    folders_of as folders_of,
    load_as_owner as load_as_owner,
    load_to_look as load_to_look,
    other_owner as other_owner,
    warn_of_file as warn_of_file,
)
from .report_models import (
    ConditionModel as ConditionModel,
    AnyValue as AnyValue,
    CycleModel as CycleModel,
    DecisionModel as DecisionModel,
    EntityModel as EntityModel,
    GuestColumnModel as GuestColumnModel,
    Kib as Kib,
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
    VerdictModel as VerdictModel,
    cycle_model as cycle_model,
    decision_model as decision_model,
    described as described,
    outcome_model as outcome_model,
    problem_model as problem_model,
    report_document as report_document,
    revision_model as revision_model,
    standing_problems as standing_problems,
    told as told,
    verdict_model as verdict_model,
)
from .run import daemon_log as daemon_log, run_daemon as run_daemon
from .status import LARGEST_STATUS as LARGEST_STATUS, STATUS_FILE as STATUS_FILE, status_of as status_of
from .supervision import config_of_running as config_of_running
