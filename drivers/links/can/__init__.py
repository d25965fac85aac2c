"""CAN buses: frames, one `Port` class for every kind of interface, and the bus that drivers share."""
