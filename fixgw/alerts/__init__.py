"""The logic of alerts, which the plugins `alerts` and `annunciate` share.

`states` has the states of an alert and all changes between them, as data. `engine` has the conditions, alerts and the
engine that judges them. Neither does I/O, and the caller gives the time. `judge` is the base of both plugins: it feeds
an engine from the database, and sets the annunciate flags.
"""
