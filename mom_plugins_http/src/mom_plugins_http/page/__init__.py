"""The web page: one document with everything in it, which asks the API for what it shows."""

from mom_plugins_http.page.document import WebPage

__all__ = ["WebPage"]
