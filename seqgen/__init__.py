"""seqgen: RF editing pulses for MR spectroscopy, from design to fitted spectra."""
