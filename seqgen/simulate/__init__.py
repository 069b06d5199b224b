"""Simulation of coupled spins through a timeline."""
