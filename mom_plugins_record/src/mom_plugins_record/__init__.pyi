from .forecast.plugin import ForecastPlugin as ForecastPlugin
from .recording.plugin import RecordPlugin as RecordPlugin
