"""The bench: a driver with its virtual device on a controlled clock, and the contract suite that every driver passes.

`contract.Contract` is the suite; `base` has what all benches share. `wired` has the benches of instruments that send
unasked, `network` the same over TCP and UDP, `chips` those of chips on I2C and SPI. `clock.Clock` is a clock that the
test controls. Only `contract` and `plugin`, which provides fixtures to pytest, need pytest.
"""
