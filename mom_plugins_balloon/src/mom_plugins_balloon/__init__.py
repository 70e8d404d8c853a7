"""The balloon controller for mom: resizes guests within what is safe for them, and brings the default policy that decides by how much."""

from mom_plugins_balloon.plugin import BalloonPlugin as BalloonPlugin
