"""Building blocks for protocols, drivers and plugins. Nothing here does I/O, starts a thread or reads a clock."""
