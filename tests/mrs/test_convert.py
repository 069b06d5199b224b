"""Raw data and `.seq` to NIfTI-MRS: a scanner's files field by field, and made-up scans whose truth is known."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import mapvbvd
import nibabel as nib
import numpy as np
import pypulseq as pp
import pytest
from nifti_mrs import validator
from nifti_mrs.nifti_mrs import NIFTI_MRS
from twix_file import NOISE, PATREF, PERSONAL, PROTOCOL, write_twix

from seqgen.errors import InputError
from seqgen.mrs.convert import Converted, convert, convert_mrd, convert_twix
from seqgen.mrs.mrd import write_mrd
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.provenance import sha256_file
from seqgen.seqfile.reader import read_seq

TIME = "2026-02-03T04:05:06"
F0_HZ = 123.2e6
SYSTEM = pp.Opts(
    max_grad=40, grad_unit="mT/m", max_slew=150, slew_unit="T/m/s", rf_dead_time=1e-4, rf_ringdown_time=3e-5
)
SLICE_HZ_PER_M = 1e5
TE_S, TR_S, N, DWELL_S = 0.08, 1.5, 256, 2.5e-4


def make_seq(
    path: Path,
    *,
    n_metabolite: int = 4,
    n_water: int = 2,
    n_noise: int = 0,
    dummies: int = 1,
    opens_s: float = TE_S,
    adc: dict[str, Any] | None = None,
    definitions: dict[str, Any] | None = None,
    axes: str = "xyz",
    seq_format: str = "1.5.0",
    flip_rad: float = math.pi / 2,
) -> Path:
    """PRESS of 1 ms hard pulses with a constant gradient under each, echo at TE_S, receiver opening `opens_s` after."""
    seq = pp.Sequence(SYSTEM)
    for _ in range(n_noise):
        seq.add_block(pp.make_adc(N, dwell=DWELL_S, system=SYSTEM), pp.make_label("NOISE", "SET", 1))
    total = dummies + n_metabolite + n_water
    for k in range(total):
        add_shot(seq, axes, flip_rad)
        block: list[Any] = [pp.make_delay(TR_S - 2e-3 - TE_S / 2)]
        delay = round((opens_s - (TE_S / 2 + 2e-3)) * 1e6) * 1e-6 + 1.4e-3
        if k >= dummies:
            block.append(pp.make_adc(N, dwell=DWELL_S, delay=delay, system=SYSTEM, **(adc or {})))
            block.append(pp.make_label("AVG", "SET", k))
            block.append(pp.make_label("REF", "SET", int(k >= dummies + n_metabolite)))
            block.append(pp.make_label("NOISE", "SET", 0))
        seq.add_block(*block)
    seq.set_definition("Name", "test press")
    for key, value in (definitions or {}).items():
        seq.set_definition(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyPulseq's news about its 1.4.1 compatibility mode
        seq.write(str(path), v141_compat=seq_format == "1.4.1")
    return path


def add_shot(seq: pp.Sequence, axes: str, flip_rad: float) -> None:
    """Three blocks of 2 ms with the pulses' centres in their middle, TE_S / 4 and TE_S / 2 apart, crushed apart."""
    for name, angle, axis in (("excitation", flip_rad, 0), ("refocusing", math.pi, 1), ("refocusing", math.pi, 2)):
        pulse = pp.make_block_pulse(angle, duration=1e-3, delay=5e-4, system=SYSTEM, use=name)
        pulse_block: list[Any] = [pulse, pp.make_delay(2e-3)]
        if "xyz"[axis] in axes:
            pulse_block.append(
                pp.make_trapezoid("xyz"[axis], amplitude=SLICE_HZ_PER_M, rise_time=1e-4, flat_time=1.8e-3, fall_time=1e-4)
            )
        crusher = pp.make_trapezoid("x", area=(axis + 1) * 700.0, duration=3e-3, system=SYSTEM)
        if axis > 0:
            seq.add_block(*pulse_block)
            seq.add_block(crusher)
        else:
            # the second half of the excitation's gradient is rewound before the crushers
            seq.add_block(*pulse_block)
            if "x" in axes:
                seq.add_block(pp.make_trapezoid("x", area=-SLICE_HZ_PER_M * 0.95e-3, duration=1.4e-3, system=SYSTEM))
            else:
                seq.add_block(pp.make_delay(1.4e-3))
        gap = {0: TE_S / 4 - 2e-3 - 1.4e-3 - 3e-3, 1: TE_S / 2 - 2e-3 - 3e-3 - 3e-3, 2: None}[axis]
        if gap is not None:
            seq.add_block(pp.make_delay(gap))
            seq.add_block(pp.make_trapezoid("x", area=(axis + 2) * 700.0, duration=3e-3, system=SYSTEM))
