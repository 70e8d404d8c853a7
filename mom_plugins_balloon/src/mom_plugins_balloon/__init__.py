"""Balloon controller of mom: resizes guests without harm to them, and brings the default policy, which follows the balloon law."""

from mom_plugins_balloon.plugin import BalloonPlugin as BalloonPlugin
