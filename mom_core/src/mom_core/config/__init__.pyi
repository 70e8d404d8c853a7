from .configuration import Config as Config, ConfiguredPlugin as ConfiguredPlugin, GuestRule as GuestRule
from .loader import load_config as load_config, read_settings as read_settings
