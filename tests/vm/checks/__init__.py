"""The checks, in the order in which they run."""

from . import installation, service, can, gpio, serial, supervision, power  # noqa: F401, I001
