"""The basis of a file against the simulated scan of the same file, and against a singlet in closed form."""

import numpy as np
import pytest
from press_files import F0_HZ, WATER_PPM, build, random_pulse, write

from seqgen import library
from seqgen.mrs.basis_simulation import simulate_basis
from seqgen.mrs.phantom import Scan, Substance, simulate_scan
from seqgen.provenance import Provenance
from seqgen.seqfile.reader import read_seq
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem

PLACE = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM}


@pytest.fixture(scope="module")
def seq(tmp_path_factory):
    return read_seq(write(tmp_path_factory.mktemp("basis") / "edited.seq", build(random_pulse())))


def test_a_basis_column_is_the_fid_of_a_perfect_scan(seq):
    """No errors, no noise: the transient is the column times c exp(-TE/T2) (1 - exp(-TR/T1)), line broadened."""
    systems = {name: library.spin_system(name) for name in ("Glu", "Gln")}
    basis = simulate_basis(seq, systems, provenance=Provenance(), **PLACE)
    relaxation = Relaxation(t1_s=1.4, t2_s=0.2)
    scan = Scan(
        n_coils=1,
        snr=1e12,
        linewidth_hz=3.0,
        frequency_drift_hz=0.0,
        phase_drift_rad=0.0,
        residual_water_fraction=0.0,
        water_concentration_mm=1.0,
        water_relaxation=relaxation,
        water_shift_ppm=WATER_PPM,
        shift_error_ppm=0.0,
        j_error_relative=0.0,
        t2_error_relative=0.0,
        eddy_phase_rad=0.0,
    )
    t = np.arange(512) * 2.5e-4
    decay = np.exp(-np.pi * 3.0 * t) * np.exp(-0.075 / 0.2) * (1 - np.exp(-2.0 / 1.4))
    coil = []
    for name, concentration_mm in (("Glu", 12.0), ("Gln", 3.0)):
        sample = {name: Substance(system=systems[name], concentration_mm=concentration_mm, relaxation=relaxation)}
        found = simulate_scan(seq, sample, scan, spectrometer_frequency_hz=F0_HZ, seed=1)
        wanted = concentration_mm * decay * basis.column(name)
        factor = np.vdot(wanted, found.transients[1, 0]) / np.vdot(wanted, wanted)
        assert np.abs(found.transients[1, 0] - factor * wanted).max() < 1e-9 * np.abs(wanted).max()
        assert abs(factor) == pytest.approx(1.0, abs=1e-9)
        coil.append(factor)
    assert coil[0] == pytest.approx(coil[1], abs=1e-9)
    assert basis.te_s == pytest.approx(0.075, abs=1e-9)
    assert basis.relaxation_included is False


def test_a_singlet_turns_with_its_offset_and_counts_its_protons(tmp_path):
    seq = read_seq(write(tmp_path / "press.seq", build()))
    group = SpinGroup(name="CH3", labels=("H",), shift_ppm=(3.0,), j_hz=((0.0,),), multiplier=3.0)
    basis = simulate_basis(seq, {"X": SpinSystem(name="X", groups=(group,))}, provenance=Provenance(), **PLACE)
    t = np.arange(512) * 2.5e-4
    column = basis.column("X")
    assert column / column[0] == pytest.approx(np.exp(2j * np.pi * (3.0 - WATER_PPM) * 123.2 * t), abs=1e-9)
    assert 0.8 * 3 < abs(column[0]) < 1.05 * 3


def test_progress_counts_metabolites(seq):
    calls = []
    group = SpinGroup(name="s", labels=("H",), shift_ppm=(3.0,), j_hz=((0.0,),))
    systems = {name: SpinSystem(name=name, groups=(group,)) for name in ("X", "Y")}
    simulate_basis(seq, systems, provenance=Provenance(), progress=lambda *c: calls.append(c), **PLACE)
    assert calls == [(1, 2), (2, 2)]
