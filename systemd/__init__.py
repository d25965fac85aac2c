"""Unit and installation files, shipped as package data."""
