"""CRIS: the network, and its recipe."""
