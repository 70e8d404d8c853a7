"""The control socket of mom: an HTTP/JSON API, policies at run time, events and metrics."""

from mom_plugins_http.plugin import HttpPlugin as HttpPlugin
