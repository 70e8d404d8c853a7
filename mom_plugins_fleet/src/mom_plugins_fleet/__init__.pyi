from .plugin import FleetPlugin as FleetPlugin
