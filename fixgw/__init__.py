"""FIX Gateway: a central database of flight information, and the plugins around it."""

__version__ = "0.2.0.dev0"
