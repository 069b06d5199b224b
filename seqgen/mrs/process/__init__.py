"""Processing of transients to one spectrum ready to fit, in the order of Near et al. (2021)."""

from seqgen.mrs.process.pipeline import Processed, ProcessSettings, process

__all__ = ["ProcessSettings", "Processed", "process"]
