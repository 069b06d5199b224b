"""Building blocks, timing and plug-ins of sequences."""
