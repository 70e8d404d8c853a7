"""Balloon controller: resizes guests without harm. Brings the default policy."""

from mom_plugins_balloon.plugin import BalloonPlugin as BalloonPlugin
from mom_plugins_balloon.sizes import BalloonControl as BalloonControl
