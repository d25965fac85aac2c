"""Sockets for drivers and plugins: access control, listening, connecting, datagrams.

- `access`: allowed networks, and the addresses of callers.
- `endpoint`: parses and checks ``tcp://HOST:PORT`` and ``udp://HOST:PORT``.
- `listener`: a TCP port that limits its connections, in total and per host, and counts those that it refuses.
- `tcp`: connections that notice a vanished peer, and a client's link.
- `udp`: links that receive and send datagrams.
"""
