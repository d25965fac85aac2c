"""How devices are reached: serial lines, CAN buses, chips on I2C and SPI, pins. I/O, and no device's protocol."""
