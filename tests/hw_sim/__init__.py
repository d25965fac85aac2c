"""Virtual devices and the virtual aircraft, for tests and for hardware-in-the-loop benches."""
