"""Sockets for drivers and plugins alike: who may connect, listening, connecting, datagrams."""
