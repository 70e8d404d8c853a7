from .recording.plugin import RecordPlugin as RecordPlugin
