"""Design problems small enough for a test: Glu against Gln, coarse positions, one or a few members."""

import pytest
import torch
from press_files import F0_HZ, PARAMS, PRESS, SCANNER, WATER_PPM, build, context

from seqgen import library
from seqgen.design.evaluate import evaluator
from seqgen.design.problem import DesignSpec
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.spin.system import Relaxation

TEMPLATE = {"water_suppression": "none", "averages": 2, "dummy_scans": 0, "water_reference_averages": 0}


def make_spec(**changes):
    given = {
        "target": "Glu",
        "interferers": ("Gln",),
        "window_ppm": (2.25, 2.42),
        "duration_s": 0.02,
        "carrier_ppm": 2.35,
        "b1_max_hz": 300.0,
        "energy_max_hz2_s": 1000.0,
        "te1_s": 0.041,
        "te2_s": 0.034,
        "starts": 1,
        "iterations": 3,
    }
    return DesignSpec(**(given | changes))


def make_problem(spec, *, edited=True, names=("Glu", "Gln"), positions_per_slice=2, j_step_s=4e-4, **params):
    stand_in = RFPulse(
        b1_hz=torch.ones(round(spec.duration_s / spec.rf_dwell_s), dtype=torch.complex128),
        dwell_s=spec.rf_dwell_s,
        name="edit",
    )
    built = build(stand_in if edited else None, **(TEMPLATE | params))
    systems = {name: library.spin_system(name) for name in names}
    return evaluator(
        spec,
        phase_cycle(built_shots(built.blocks, SCANNER, "template")),
        systems,
        dict.fromkeys(names, Relaxation(t1_s=1.2, t2_s=0.16)),
        spectrometer_frequency_hz=F0_HZ,
        reference_ppm=WATER_PPM,
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
    )


@pytest.fixture(scope="session")
def design_spec():
    return make_spec


@pytest.fixture(scope="session")
def design_problem():
    return make_problem


@pytest.fixture(scope="session")
def minimum_te_s():
    """Least (TE1, TE2) without and with a pulse of 20 ms."""
    stand_in = RFPulse(b1_hz=torch.ones(1000, dtype=torch.complex128), dwell_s=2e-5, name="edit")
    return {edited: PRESS.minimum_te_s(PARAMS, context(stand_in if edited else None)) for edited in (False, True)}
