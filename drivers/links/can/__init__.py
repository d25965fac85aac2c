"""CAN buses: frames, interfaces behind one shape, and the bus that drivers share."""
