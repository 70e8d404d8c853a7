"""A flight recorder for mom, and what is made of its recordings: replay, pictures, advice."""

from mom_plugins_record.recording.plugin import RecordPlugin as RecordPlugin
