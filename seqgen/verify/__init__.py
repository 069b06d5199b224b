"""Checks of a written .seq file by code that shares nothing with design and sequence."""
