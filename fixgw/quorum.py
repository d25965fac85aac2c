"""Who leads when several gateways serve one aircraft: plain module attributes, set by whoever decides it.

A gateway that is alone leads.
"""

leader: bool = True
enabled: bool = False
nodeid: int | None = None
total_nodes: int = 1
vote_key: str | None = None
