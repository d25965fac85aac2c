"""CAN-FIX: the parameter table (`table`), its messages as bytes (`protocol`) and as a DBC file (`dbc`)."""
