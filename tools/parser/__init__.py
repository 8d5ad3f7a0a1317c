"""Remakes the shipped parser."""
