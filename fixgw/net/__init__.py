"""Sockets for drivers and plugins alike: who may connect, listening, connecting, datagrams.

- `access`: allowed networks, and the addresses of callers.
- `endpoint`: ``tcp://HOST:PORT`` and ``udp://HOST:PORT``, taken apart and checked.
- `listener`: a TCP port with bounds, in all and for each host, and counters of who was refused.
- `tcp`: connections that notice a vanished peer, and the link of a client.
- `udp`: the link that hears datagrams, and the one that sends them.
"""
