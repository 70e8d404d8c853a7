"""A flight recorder for mom, and what is made of its recordings: replay, pictures, advice."""

from mom_plugins_record.recording.plugin import RecordPlugin

__version__ = "0.1.0"

__all__ = ["RecordPlugin", "__version__"]
