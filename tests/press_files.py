"""PRESS as the tests build it, and its file."""

from dataclasses import replace

import torch

from seqgen.pulse.waveform import RFPulse
from seqgen.scanner import Scanner
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.plugins import BuildContext, find_sequence

F0_HZ = 123.2e6
WATER_PPM = 4.8
SCANNER = Scanner(
    name="test scanner",
    vendor="siemens",
    b0_nominal_t=2.89,
    max_gradient_t_per_m=0.08,
    max_slew_t_per_m_per_s=200.0,
    b1_max_t=23e-6,
    rf_raster_s=1e-6,
    gradient_raster_s=1e-5,
    adc_raster_s=1e-7,
    block_raster_s=1e-5,
    rf_dead_time_s=1e-4,
    rf_ringdown_s=3e-5,
    adc_dead_time_s=1e-5,
)
PRESS = find_sequence("press")
PARAMS = PRESS.Params(
    te1_s=0.041,
    te2_s=0.034,
    tr_s=2.0,
    voxel_size_m=(0.02, 0.025, 0.03),
    voxel_position_m=(0.01, -0.005, 0.02),
    averages=2,
    dummy_scans=1,
    adc_samples=512,
)


def random_pulse(peak_hz=200.0, duration_s=0.02, dwell_s=2e-5, seed=0):
    """A random pulse of smooth amplitude: not symmetric in time, so that a reversed or conjugated one shows."""
    generator = torch.Generator().manual_seed(seed)
    n = round(duration_s / dwell_s)
    coarse = torch.randn(2, 1, n // 50, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, size=n, mode="linear")[:, 0]
    window = torch.sin(torch.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    b1 = torch.complex(smooth[0], smooth[1]) * window
    return RFPulse(b1_hz=b1 * (peak_hz / b1.abs().max()), dwell_s=dwell_s, carrier_offset_hz=-301.0, name="edit")


def context(pulse=None, scanner=SCANNER):
    """What PRESS is built with."""
    return BuildContext(
        scanner=scanner, spectrometer_frequency_hz=F0_HZ, water_shift_ppm=WATER_PPM, editing_pulse=pulse
    )


def build(pulse=None, scanner=SCANNER, **changes):
    """Return built PRESS with some parameters changed."""
    return PRESS.build(replace(PARAMS, **changes), context(pulse, scanner))


def write(path, built, seq_format="1.5.0", scanner=SCANNER):
    """Write a built sequence, frequency and water shift stated as the pipeline states them."""
    definitions = built.definitions | {
        "seqgen_reference_ppm": WATER_PPM,
        "seqgen_spectrometer_frequency_hz": F0_HZ,
    }
    write_seq(
        built.blocks,
        path,
        scanner=scanner,
        spectrometer_frequency_hz=F0_HZ,
        definitions=definitions,
        seq_format=seq_format,
        shot_starts=built.shot_starts,
    )
    return path
