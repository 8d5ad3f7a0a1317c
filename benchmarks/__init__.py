"""Measurements of the project's own speed; no tests."""
