"""Pulse design: ensembles, objectives, constraints, optimiser, artefact."""
