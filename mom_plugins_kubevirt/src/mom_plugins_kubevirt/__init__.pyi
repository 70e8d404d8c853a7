from .plugin import KubevirtPlugin as KubevirtPlugin
