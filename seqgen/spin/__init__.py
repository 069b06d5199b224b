"""Spin systems, operators and Hamiltonians."""
