"""What `fixgw canfix` does; its arguments are in `fixgw.drivers.canfix.command`."""
