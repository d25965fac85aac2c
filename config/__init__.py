"""The default configuration tree, shipped as package data."""
