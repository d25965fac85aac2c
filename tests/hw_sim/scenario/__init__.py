"""Scenarios: YAML files that say what flies, what happens to it and when, and what a gateway is expected to make of it.

    description: The engine monitor falls silent and comes back
    bit_rate: 250                 # kbit/s: 125, 250, 500 or 1000
    duration: 30                  # s; if left out, the scenario never ends
    configuration: demo           # what `fixgw bench run` runs: a file, or a packaged one; default: whichever fits
    flight:                       # optional
      start: 2025-07-21 15:00:00  # date and time (UTC) at the start; default: now
      after: 600                  # s of flight before the scenario begins
      seed: 1                     # the same seed gives the same turbulence
      turbulence: 0.5             # 0: smooth, 1: light
      fuel: 3                     # gal in each of two tanks
    nodes:                        # default: one of each kind
      air:                        # a device, see `fixgw.hw_sim.can.devices`, with its default node id
      engine: {id: 65}            # with another node id
      spare: {device: engine, id: 66, disabled: [0x500, 0x502]}
    wires: {navigator: gnx}       # the device that a connection finds, if neither its name nor its driver says it
    senders:                      # what is wired to the inputs of a converter: volts by the value of a key
      ads1115: [{key: FUELQ1, points: [[0, 0.3], [20, 2.9]]}]
    parameters:                   # $NAME stands for the value; the command line may give another
      lost: 5
      pressure: {default: 12, min: 0, max: 100, description: "oil pressure, psi"}
    events:
      - {at: 12.5, node: engine, fault: silent, for: $lost, name: silence}  # a fault, see `fixgw.hw_sim.can.faults`
      - {at: 15, node: air, fault: babbling, rate: 5000}  # with its options; without `for` it lasts to the end
      - {at: 18, node: panel, turn: 0, by: -3}            # turn an encoder by that many steps
      - {at: 19, node: panel, press: 2, for: 0.5}         # press a button
      - {at: 20, node: panel, switch: 9, to: yes}
      - {at: 21, node: engine, alarm: 0x102, data: "2a00"}  # a node alarm: its code, and its data in hex
      - {at: 25, adapter: unplugged, for: 3}              # something happens to the adapter, see `ADAPTER`
      - {at: 30, instrument: eis, fault: truncate, rate: 0.5, for: 3}  # a fault of the wire, see `fixgw.hw_sim.faults`
      - {at: 33, instrument: gps, fault: unplug, for: 5}
      - {at: 36, instrument: panel, turn: 0, by: 2}       # knobs, buttons and switches of the panel on pins
      - {at: 40, aircraft: oil-leak, for: 20}             # something happens to the aircraft, see `AIRCRAFT`
      - {at: 45, set: OILP1, to: $pressure, for: 5}       # every device sees this value, in the key's units
      - {at: 50, instrument: eis, set: CHT13, to: 260}    # this instrument or node alone sees it

Besides `at`, a step begins `after` another that has a name, `when` an expression becomes true, or `whenever` it does
(`by` some time); `at` then counts from there. Steps that are not events:

      - {after: silence, within: 3, expect: {key: TACH1, flags: old}}      # see `fixgw.hw_sim.bench.expect`
      - {at: 60, repeat: 3, every: 10, events: [...]}     # three times, or `each: [gps, eis], as: device`
      - {at: 90, play: oil-pressure, with: {psi: 10}}     # the events of another file
      - {at: 99, random: 5, during: 60}                   # five faults at random, the same ones for the same seed

Every problem in a file is reported at once, with its place. The same file drives tests, benches, ``fixgw sim can`` and
``fixgw bench run``: `Play` plays it without threads or clocks of its own, `frames` as fast as possible, and
`fixgw.hw_sim.can.bus.CanBus` in a world, on a bus that other programs can reach.
"""

from fixgw.hw_sim.scenario.actions import ADAPTER as ADAPTER
from fixgw.hw_sim.scenario.actions import AIRCRAFT as AIRCRAFT
from fixgw.hw_sim.scenario.forms import Event as Event
from fixgw.hw_sim.scenario.forms import Flight as Flight
from fixgw.hw_sim.scenario.forms import NodeOptions as NodeOptions
from fixgw.hw_sim.scenario.forms import Scenario as Scenario
from fixgw.hw_sim.scenario.forms import everything as everything
from fixgw.hw_sim.scenario.forms import find as find
from fixgw.hw_sim.scenario.forms import instruments as instruments
from fixgw.hw_sim.scenario.forms import shipped as shipped
from fixgw.hw_sim.scenario.play import Director as Director
from fixgw.hw_sim.scenario.play import Play as Play
from fixgw.hw_sim.scenario.play import frames as frames
from fixgw.hw_sim.scenario.reading import declared as declared
from fixgw.hw_sim.scenario.reading import load as load
