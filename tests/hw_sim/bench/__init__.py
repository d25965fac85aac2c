"""The bench: a driver against its virtual device on a wound clock, and the contract suite that every driver passes.

`contract.Contract` is the suite, `base` what all benches share. `wired` holds the benches of instruments that send by
themselves, `network` the same behind TCP and UDP, `chips` those of chips on I2C and SPI. `clock.Clock` is time that
passes when told to. Only `contract` and `plugin`, which brings fixtures to pytest, need pytest.
"""
