"""Balloon controller: resizes guests without harm, and brings the default policy, which follows the balloon law."""

from mom_plugins_balloon.plugin import BalloonPlugin as BalloonPlugin
