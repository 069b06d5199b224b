"""Pulseq files: a strict reader and a writer through PyPulseq."""
