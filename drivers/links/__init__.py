"""How drivers reach devices: serial lines, CAN buses, chips on I2C and SPI, pins. Contains no device's protocol."""
