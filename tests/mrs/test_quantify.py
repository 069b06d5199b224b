import math
from dataclasses import replace

import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.quantify import (
    WaterCompartment,
    WaterReference,
    quantify,
    relaxation_factor,
    saturation_factor,
    water_amplitude,
)
from seqgen.spin.system import Relaxation

GLU = Relaxation(t1_s=1.23, t2_s=0.165)
PURE_MM = 55510.0


def phantom(**changes):
    solution = WaterCompartment(
        name="solution", volume_fraction=1.0, concentration_mm=PURE_MM, relaxation=Relaxation(t1_s=2.5, t2_s=1.5)
    )
    values = {"amplitude": 1.0, "response": 1.0, "compartments": (solution,), "te_s": 0.03, "tr_s": 2.0} | changes
    return WaterReference(**values)


def signal(gain, mm, protons, t1_s, t2_s, te_s, tr_s):
    """Gain times spins times relaxation, written from the Bloch equations."""
    return gain * mm * protons * math.exp(-te_s / t2_s) * (1 - math.exp(-tr_s / t1_s))


def test_relaxation_in_closed_form():
    # At TR = T1 ln 2 half of the magnetisation is back; after TE = T2 ln 4 a quarter of the signal is left.
    relaxation = Relaxation(t1_s=1.3, t2_s=0.2)
    assert saturation_factor(relaxation, 1.3 * math.log(2)) == pytest.approx(0.5)
    assert relaxation_factor(relaxation, 0.2 * math.log(4), 1.3 * math.log(2)) == pytest.approx(0.125)
    assert saturation_factor(relaxation, 1e-12) == pytest.approx(1e-12 / 1.3)


def test_a_phantom_gives_back_what_was_dissolved():
    # Glu 12.5 mM at TE 75 ms; the fitted amplitude is signal per proton; water by another TE and a lossy sequence.
    gain, response = 0.37, 0.62
    amplitude = signal(gain, 12.5, 1, GLU.t1_s, GLU.t2_s, 0.075, 2.0)
    water = phantom(amplitude=response * signal(gain, PURE_MM, 2, 2.5, 1.5, 0.03, 2.0), response=response)
    found = quantify(
        ("Glu",),
        np.array([amplitude]),
        np.array([0.1 * amplitude]),
        water=water,
        relaxation={"Glu": GLU},
        te_s=0.075,
        tr_s=2.0,
        relaxation_included=False,
    )
    assert found.value_mm[0] == pytest.approx(12.5, rel=1e-12)
    assert found.crlb_sd_mm[0] == pytest.approx(1.25, rel=1e-12)
    assert found.factor_mm[0] * amplitude == pytest.approx(12.5, rel=1e-12)


def test_t2_in_the_basis_is_not_corrected_again():
    amplitude = np.array([1.0])
    arguments = {"water": phantom(), "relaxation": {"Glu": GLU}, "te_s": 0.075, "tr_s": 2.0}
    without = quantify(("Glu",), amplitude, amplitude, relaxation_included=False, **arguments)
    included = quantify(("Glu",), amplitude, amplitude, relaxation_included=True, **arguments)
    assert without.value_mm[0] / included.value_mm[0] == pytest.approx(math.exp(0.075 / 0.165))


def test_brain_tissue_and_csf():
    # Metabolites at 10 mM of tissue; 20 % CSF without them.
    parts = {"GM": (0.5, 43300.0, 1.5, 0.1, True), "WM": (0.3, 36080.0, 0.97, 0.07, True)}
    parts["CSF"] = (0.2, 53840.0, 4.0, 1.0, False)
    water = sum(signal(0.5, f * w, 2, t1, t2, 0.04, 3.0) for f, w, t1, t2, _ in parts.values())
    metabolite = signal(0.5, 10.0 * 0.8, 1, GLU.t1_s, GLU.t2_s, 0.075, 2.0)
    compartments = tuple(
        WaterCompartment(
            name=name,
            volume_fraction=f,
            concentration_mm=w,
            relaxation=Relaxation(t1_s=t1, t2_s=t2),
            holds_metabolites=tissue,
        )
        for name, (f, w, t1, t2, tissue) in parts.items()
    )
    found = quantify(
        ["Glu"],
        np.array([metabolite]),
        np.array([0.0]),
        water=phantom(amplitude=water, compartments=compartments, te_s=0.04, tr_s=3.0),
        relaxation={"Glu": GLU},
        te_s=0.075,
        tr_s=2.0,
        relaxation_included=False,
    )
    assert found.value_mm[0] == pytest.approx(10.0, rel=1e-12)


def water_data(fid, *dims):
    return MRSData(
        fid=fid, dims=dims, dwell_s=2.5e-4, spectrometer_frequency_hz=123.2e6, nucleus="1H", reference_ppm=4.65
    )


def test_water_amplitude_of_a_voigt_line():
    t = np.arange(2048) * 2.5e-4
    fid = 5000 * np.exp((2j * np.pi * 17 - np.pi * 9) * t - (np.pi * 14 * t) ** 2 / (4 * math.log(2)) + 2j)
    assert water_amplitude(water_data(fid)) == pytest.approx(5000, rel=1e-9)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(2048) + 1j * rng.standard_normal(2048)
    assert water_amplitude(water_data(fid + 5 * noise)) == pytest.approx(5000, rel=3e-3)


def test_what_cannot_be_quantified_is_refused():
    with pytest.raises(InputError, match="no relaxation times for Gln"):
        quantify(
            ("Glu", "Gln"),
            np.ones(2),
            np.ones(2),
            water=phantom(),
            relaxation={"Glu": GLU},
            te_s=0.0,
            tr_s=1.0,
            relaxation_included=True,
        )
    half = replace(phantom().compartments[0], volume_fraction=0.5)
    with pytest.raises(InputError, match=r"add up to 1, but give 0\.5000"):
        phantom(compartments=(half,))
    with pytest.raises(InputError, match="holds metabolites"):
        phantom(compartments=(replace(half, volume_fraction=1.0, holds_metabolites=False),))
    with pytest.raises(InputError, match="amplitude"):
        phantom(amplitude=0.0)
    with pytest.raises(InputError, match="volume_fraction from 0 to 1"):
        replace(half, volume_fraction=1.5)
    with pytest.raises(InputError, match="dims DIM_DYN"):
        water_amplitude(water_data(np.ones((64, 2)) + 0j, "DIM_DYN"))
    with pytest.raises(InputError, match="8 are needed"):
        water_amplitude(water_data(np.ones(5) + 0j))
    with pytest.raises(InputError, match="no water signal"):
        water_amplitude(water_data(np.zeros(64) + 0j))
