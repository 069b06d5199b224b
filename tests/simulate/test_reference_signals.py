"""Signals of FID-A, FSL-MRS and an exact NumPy run for the same work (shared/data/reference/README.md)."""

import json
import math

import numpy as np
import pytest
import torch

from seqgen.simulate.acquire import concatenate, fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.pathways import refocused_pathways
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.system import SpinGroup
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

F0_HZ = 123.25e6
N_SAMPLES, DWELL_S = 2048, 5e-4
WITHOUT_PSEUDO_SPINS = (
    *("Glu", "Gln", "Ala", "Asc", "Asp", "Cr", "PCr", "GABA", "Glc", "GSH", "Gly", "Ins", "Lac", "NAA", "NAAG"),
    *("Scyllo", "Ser", "Tau"),
)


def spin_groups(shared, name):
    rows = json.loads((shared / "data/reference/spin_systems_fida.json").read_text())[name]
    groups = []
    for row in rows:
        j = np.triu(np.atleast_2d(np.array(row["j"], dtype=float)), 1)
        shifts = np.atleast_1d(row["shifts"])
        groups.append(
            SpinGroup(
                name=name,
                labels=tuple(f"H{k}" for k in range(len(shifts))),
                shift_ppm=tuple(float(s) for s in shifts),
                nuclei=tuple({40.0: "31P", 100.0: "15N"}.get(float(s), "1H") for s in shifts),
                j_hz=tuple(tuple(float(v) for v in r) for r in j + j.T),
                multiplier=float(row["scaleFactor"]),
            )
        )
    return groups


def readout():
    return Interval(
        dwell_s=N_SAMPLES * DWELL_S,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=Receiver(n_samples=N_SAMPLES, dwell_s=DWELL_S),
    )


def ideal_press(te_s):
    return Timeline(
        intervals=(
            ideal_pulse(math.pi / 2, 0.0, "excitation"),
            delay(te_s / 4),
            ideal_pulse(math.pi, math.pi / 2, "refocusing"),
            delay(te_s / 2),
            ideal_pulse(math.pi, math.pi / 2, "refocusing"),
            delay(te_s / 4),
            readout(),
        )
    )


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", WITHOUT_PSEUDO_SPINS)
def test_w1_ideal_press(shared, name):
    parts = []
    for group in spin_groups(shared, name):
        model = group_model(group, F0_HZ, 4.65)
        parts.append(lines(play(prepare([ideal_press(0.030)], model)), model))
    signal = fid(concatenate(parts), N_SAMPLES, DWELL_S)[0].numpy()
    folder = shared / "data/reference"
    with np.load(folder / "w1_press_ideal_TE30_fida.npz") as fida:
        assert relative_error(1j * signal, fida[f"fid_{name}"]) < 1e-10
    with np.load(folder / "w1_press_ideal_TE30_fslmrs_denmatsim.npz") as fslmrs:
        assert relative_error(signal, fslmrs[f"fid_{name}"]) < 3e-9


@pytest.mark.parametrize("name", ["PE", "PCh", "GPC"])
def test_w1_pseudo_spins_by_the_convention_of_fid_a(shared, name):
    """FID-A couples 31P and 14N as spins 1/2 at 40 and 100 ppm by the full I.I, and detects them."""
    parts = []
    for group in spin_groups(shared, name):
        model = group_model(group, F0_HZ, 4.65, pseudo_spins="fid_a")
        parts.append(lines(play(prepare([ideal_press(0.030)], model)), model))
    signal = fid(concatenate(parts), N_SAMPLES, DWELL_S)[0].numpy()
    with np.load(shared / "data/reference/w1_press_ideal_TE30_fida.npz") as fida:
        assert relative_error(1j * signal, fida[f"fid_{name}"]) < 1e-10


class ShapedPress:
    """PRESS of W2: shaped selective 180s along x and y, pathway selected by real crusher moments."""

    def __init__(self, shared):
        with np.load(shared / "data/reference/w2_inputs.npz", allow_pickle=True) as inputs:
            phase = torch.tensor(inputs["pulse_phase_rad"]) + math.pi / 2
            self.b1_hz = torch.polar(torch.tensor(inputs["pulse_amp_Hz"]), phase)
            self.gradient_hz_per_m = float(inputs["grad_Hz_per_m"])
            self.positions_m = {n: torch.tensor(inputs[f"pos{n}_m"]) for n in (16, 41)}
        crush_x, crush_y = (self.crusher(axis) for axis in (0, 1))
        self.timeline = Timeline(
            intervals=(
                ideal_pulse(math.pi / 2, 0.0, "excitation"),
                delay(0.005),
                crush_x,
                self.selective(0),
                crush_x,
                delay(0.010),
                crush_y,
                self.selective(1),
                crush_y,
                delay(0.005),
                readout(),
            )
        )

    @staticmethod
    def crusher(axis):
        """1000 cycles per metre in a femtosecond."""
        return delay(1e-15, tuple(1e18 if k == axis else 0.0 for k in range(3)))

    def selective(self, axis):
        gradient = torch.zeros(100, 3, dtype=torch.float64)
        gradient[:, axis] = self.gradient_hz_per_m
        return Interval(
            dwell_s=5e-5,
            b1_hz=self.b1_hz,
            gradient_hz_per_m=gradient,
            use="refocusing",
            centre_s=2.5e-3,
            name=f"180 along {'xyz'[axis]}",
        )

    def signal(self, group, n_positions, j_step_s):
        model = group_model(group, F0_HZ, 2.35)
        shot = prepare(
            [self.timeline],
            model,
            positions_m=self.positions_m[n_positions],
            j_step_s=j_step_s,
            time_zero_s=self.timeline.readouts()[0][0],
        )
        return fid(lines(play(shot), model), N_SAMPLES, DWELL_S)[0].numpy()


@pytest.fixture(scope="module")
def shaped_press(shared):
    return ShapedPress(shared)


@pytest.fixture(scope="module")
def glu(shared):
    return spin_groups(shared, "Glu")[0]


def w2(shared, tool, key):
    with np.load(shared / f"data/reference/w2_press_shaped_{tool}.npz") as signals:
        return signals[key]


def test_w2_crushers_leave_the_spin_echo_pathway(shaped_press):
    assert [path.orders for path in refocused_pathways([shaped_press.timeline])] == [(-1, 1, -1)]


@pytest.mark.parametrize(("n_positions", "tool"), [(16, "numpy_exact"), (16, "fslmrs"), (41, "fslmrs")])
def test_w2_shaped_press_converges_with_order_four(shared, shaped_press, glu, n_positions, tool):
    expected = w2(shared, tool, f"Glu_mean{n_positions}")
    errors = [relative_error(shaped_press.signal(glu, n_positions, step), expected) for step in (4e-4, 2e-4)]
    assert errors[0] < 1e-4
    assert errors[1] < 1e-6
    # The waveform has steps of 50 us: only below that is the order that of the splitting alone.
    fine = [relative_error(shaped_press.signal(glu, n_positions, step), expected) for step in (5e-5, 2.5e-5)]
    assert math.log2(fine[0] / fine[1]) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(("n_positions", "tool", "tolerance"), [(16, "numpy_exact", 1e-10), (41, "fslmrs", 3e-9)])
def test_w2_short_steps_reach_the_exact_signal(shared, shaped_press, glu, n_positions, tool, tolerance):
    found = shaped_press.signal(glu, n_positions, 1e-5)
    assert relative_error(found, w2(shared, tool, f"Glu_mean{n_positions}")) < tolerance


def test_w2_four_compartments_of_gln(shared, shaped_press):
    signal = sum(shaped_press.signal(group, 16, 2.5e-5) for group in spin_groups(shared, "Gln"))
    assert relative_error(signal, w2(shared, "fslmrs", "Gln_mean16")) < 3e-9
