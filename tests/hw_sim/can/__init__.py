"""Virtual CAN: a bus in memory, an slcan adapter on it, and recorded traffic."""

from fixgw.hw_sim.can.replay import read_log, replay
from fixgw.hw_sim.can.segment import Leg, Node, Segment, SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan

__all__ = ["Leg", "Node", "Segment", "SimFrame", "VirtualSlcan", "read_log", "replay"]
