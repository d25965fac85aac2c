"""Drivers: one package per device family, each a sans-I/O protocol and a thin plugin around it."""
