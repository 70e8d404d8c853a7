"""The plugin against the conformance kit."""

from ksm_files import HOST_FILES

from mom_devkit import ConformanceTests
from mom_plugins_ksm import KsmPlugin


class TestConformance(ConformanceTests):
    plugin = KsmPlugin
    host = HOST_FILES
