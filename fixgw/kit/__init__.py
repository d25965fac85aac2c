"""What protocols, drivers and plugins are made of. Nothing in here does I/O, starts a thread or reads a clock."""
