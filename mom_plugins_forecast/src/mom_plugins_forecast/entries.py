"""The verb, for `mom --help`: it is imported when it is used."""

from typing import Final

from mom_daemon import Verb

FORECAST: Final = Verb(
    "mom_plugins_forecast.verbs:forecast", "Show what guests usually use by time of day, and learn it from recordings.", "Look"
)
