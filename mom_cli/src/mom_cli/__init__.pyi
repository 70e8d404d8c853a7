from .alike import CommonProblem as CommonProblem, common_problems as common_problems
from .declared import declarations_of as declarations_of
from .explainer import (
    About as About,
    ExplainedDecision as ExplainedDecision,
    Explainer as Explainer,
    ExplanationPart as ExplanationPart,
    Sentence as Sentence,
    SentencePlace as SentencePlace,
)
from .explanation import Explainers as Explainers
from .named_guests import find_guest as find_guest, guests_unknown as guests_unknown
from .imported import Imported as Imported, ImportedSection as ImportedSection, Importer as Importer, read_foreign as read_foreign
from .running import NoSuchGuest as NoSuchGuest, NotRunning as NotRunning, RunningMom as RunningMom
from .sources import ask as ask, newest as newest, past_days as past_days, recording as recording
from .status_part import StatusPart as StatusPart
from .status_file import problems_of as problems_of, verdict_of as verdict_of
from .tables import TableColumn as TableColumn, print_table as print_table
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
