"""Plugins that are not drivers: displays, computing, recording, demonstration."""
