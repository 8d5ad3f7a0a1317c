"""Damaged and hostile files for every reader, by seed: ``python -m tests.fuzz CASES --seed 0``."""
