from .plugin import ForecastPlugin as ForecastPlugin
