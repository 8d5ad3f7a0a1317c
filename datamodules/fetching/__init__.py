"""Fetching data sets and weights: a catalogue, transfers that resume, archives unpacked with suspicion."""
