from .columns import age as age, percent as percent, short as short, sparkline as sparkline
from .looking import Looking as Looking
from .rows import Row as Row, by_name as by_name
from .table import (
    below_head as below_head,
    heading as heading,
    help_lines as help_lines,
    in_lines as in_lines,
    memory_line as memory_line,
    too_small as too_small,
    wrapped as wrapped,
)
from .terminal import Line as Line, cell as cell, shortened as shortened
from .session import terminal_for as terminal_for, watch as watch
