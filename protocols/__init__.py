"""Protocols shipped with seqgen, one YAML per study."""
