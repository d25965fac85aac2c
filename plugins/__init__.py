"""Plugins that are not drivers: they serve displays, compute, record or demonstrate."""
