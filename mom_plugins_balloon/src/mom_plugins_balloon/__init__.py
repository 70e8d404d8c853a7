"""Balloon controller: resizes guests without harm. Brings the default policy."""

from mom_plugins_balloon.plugin import BalloonPlugin as BalloonPlugin
