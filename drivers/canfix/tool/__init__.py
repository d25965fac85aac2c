"""The implementation of `fixgw canfix`; `fixgw.drivers.canfix.command` defines its arguments."""
