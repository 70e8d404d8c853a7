"""The verbs, for `mom --help`: each is imported when it is used."""

from typing import Final

from mom_daemon import Verb

RECORD: Final = Verb("mom_plugins_record.recording.command:record", "Look at what was recorded, and export it.", "Account")
REPORT: Final = Verb("mom_plugins_record.report.command:report", "Say what mom has brought and what it has cost.", "Account")
ADVISE: Final = Verb(
    "mom_plugins_record.advise.command:advise", "Say how much memory can be sold on a host, or how many more guests fit.", "Account"
)
REPLAY: Final = Verb("mom_plugins_record.replay.command:replay", "Evaluate a recording again, with the policies of then or others.", "Try")
FORECAST: Final = Verb(
    "mom_plugins_record.forecast.verbs:forecast", "Show what guests usually use by time of day, and learn it from recordings.", "Look"
)
