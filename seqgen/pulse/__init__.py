"""RF pulses: waveforms, shapes and bounded parameterisation."""
