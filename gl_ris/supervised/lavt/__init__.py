"""LAVT: the network, and its recipe."""
