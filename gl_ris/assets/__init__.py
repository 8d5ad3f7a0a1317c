"""Weights and parser that ship with the package."""
