"""Subcommands for `mom --help`. Their code is imported when they run."""

from typing import Final

from mom_daemon import Verb

RECORD: Final = Verb("mom_plugins_record.recording.command:record", "Show recordings, and export them.", "Account")
REPORT: Final = Verb("mom_plugins_record.report.command:report", "Report the gain and cost of mom.", "Account")
ADVISE: Final = Verb(
    "mom_plugins_record.advise.command:advise", "Advise how much memory to sell on a host, or how many more guests fit.", "Account"
)
REPLAY: Final = Verb("mom_plugins_record.replay.command:replay", "Evaluate a recording again, with its own or other policies.", "Try")
FORECAST: Final = Verb(
    "mom_plugins_record.forecast.verbs:forecast", "Show guests' usual memory use by time of day, and learn it from recordings.", "Look"
)
