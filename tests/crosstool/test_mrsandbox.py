"""Shaped pulses on strongly coupled spins, and gradients through them, against MRSandbox in double precision.

MRSandbox propagates the full Hamiltonian sample by sample with an expm of its own and sums transition lines. Like ours:
+x is real, alpha first, FID(t) = sum a exp(+2 pi i f t), t = 0 at the end of the pulse. Unlike ours: a proton along x
counts 1/2; shifts count from 0 ppm, and with them the frame in which a pulse's samples stand still; `offset_hz` is the
scanner's frequency error (+ lowers the spins) and stays out of the lines.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from benchmarks import epoch, peers
from seqgen.library import spin_system
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.propagate import pulse_propagator
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.system import SpinGroup

pytestmark = [pytest.mark.crosstool, pytest.mark.slow]  # slow: the import of Keras alone takes seconds

J_STEP_S = 1e-5
TOLERANCE = 1e-8
"""Of the largest signal, at J_STEP_S; MRSandbox's Taylor series of degree 18 is good to 4e-12 a sample."""
GRADIENT_TOLERANCE = 1e-7
"""Of the largest element, at J_STEP_S."""
N_SAMPLES, DWELL_S, DURATION_S = 64, 1.5e-3, 8e-3
MHZ = epoch.F0_HZ * 1e-6


@pytest.fixture(scope="module")
def mrsandbox():
    peers.keras_on_torch()
    module = pytest.importorskip(
        "mrsandbox", reason="MRSandbox is not installed: pip install -c constraints.txt -e '.[peers]'"
    )
    with peers.mrsandbox_precision("float64"):
        yield module


def glu():
    group = spin_system("Glu").groups[0]
    return SpinGroup(name="Glu", labels=group.labels, shift_ppm=group.shift_ppm, j_hz=group.j_hz)


def random_three():
    """Shift differences of the size of the couplings."""
    generator = np.random.default_rng(8)
    j = np.triu(generator.uniform(-16, 16, (3, 3)), 1)
    shift_ppm = epoch.CARRIER_PPM + generator.uniform(-30, 30, 3) / MHZ
    return SpinGroup(
        name="random", labels=("a", "b", "c"), shift_ppm=tuple(shift_ppm), j_hz=tuple(map(tuple, (j + j.T).tolist()))
    )


def waveform(n=80, seed=12):
    """Smooth, modulated in amplitude and phase, 350 Hz at its peak, nowhere zero."""
    generator = np.random.default_rng(seed)
    t = (np.arange(n) + 0.5) / n
    terms = generator.normal(size=(6, 2)) @ [1, 1j]
    shape = sum(c * np.exp(2j * math.pi * k * t) for k, c in zip(range(-3, 3), terms, strict=True)) * np.sin(
        math.pi * t
    )
    return torch.tensor(shape / np.abs(shape).max() * 350)


def ours(group, b1_hz, offset_hz=0.0):
    """FID after a pulse on the thermal state, spins at their offset during the pulse alone."""
    model = group_model(group, epoch.F0_HZ, epoch.CARRIER_PPM)
    u = pulse_propagator(
        model,
        b1_hz[None],
        DURATION_S / b1_hz.shape[0],
        offset_hz=torch.tensor([offset_hz], dtype=torch.float64),
        j_step_s=J_STEP_S,
    )[0]
    vectors = model.eigenvectors.to(u.dtype)
    u = vectors.mT @ u @ vectors
    return fid(lines(u @ model.initial_state @ u.mH, model), N_SAMPLES, DWELL_S).numpy()


def theirs(mrsandbox, group, b1_hz, **frame):
    model = group_model(group, epoch.F0_HZ, epoch.CARRIER_PPM)
    engine, system = peers.mrsandbox_engine(), peers.mrsandbox_system(model)
    sequence = mrsandbox.Sequence(peers.mrsandbox_pulse(b1_hz, DURATION_S))
    frequencies, amplitudes = engine.lines(sequence, system, **frame)
    t_s = np.arange(N_SAMPLES) * DWELL_S  # its own rendering goes through torch.compile, which takes minutes
    return np.exp(2j * math.pi * np.outer(t_s, frequencies.numpy())) @ amplitudes.numpy()


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("offset_hz", [0.0, 23.0, -61.5])
@pytest.mark.parametrize("group", [glu(), random_three()], ids=["Glu", "three"])
def test_signal_after_a_shaped_pulse(mrsandbox, group, offset_hz):
    """The offset is a shift of every spin here, so it is in their lines too."""
    shifted = SpinGroup(
        name=group.name,
        labels=group.labels,
        shift_ppm=tuple(shift + offset_hz / MHZ for shift in group.shift_ppm),
        j_hz=group.j_hz,
    )
    expected = theirs(mrsandbox, shifted, waveform())
    assert np.abs(expected).max() > 0.5
    found = ours(group, waveform(), offset_hz) * np.exp(2j * math.pi * offset_hz * np.arange(N_SAMPLES) * DWELL_S)
    assert relative_error(found, expected) < TOLERANCE


def test_b1_scale(mrsandbox):
    expected = theirs(mrsandbox, random_three(), waveform(), b1_scale=0.83)
    assert relative_error(ours(random_three(), 0.83 * waveform()), expected) < TOLERANCE


def test_frequency_error_converges_with_order_two(mrsandbox):
    """`offset_hz` turns the RF at the middle of every sample: exact for shorter and shorter samples, same waveform."""
    expected = ours(random_three(), waveform(40), -61.5)
    errors = [
        relative_error(
            theirs(mrsandbox, random_three(), waveform(40).repeat_interleave(parts), offset_hz=61.5), expected
        )
        for parts in (1, 2, 4)
    ]
    assert errors[-1] < 1e-3
    assert [math.log2(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([2, 2], abs=0.1)


def test_line_amplitudes_and_gradient_of_the_benchmark(mrsandbox):
    groups, b1_hz = epoch.models(), epoch.pulse(100)
    values, gradient = epoch.our_epoch(groups, j_step_s=J_STEP_S)(b1_hz)
    expected, expected_gradient = peers.mrsandbox_epoch(groups)(b1_hz)
    assert relative_error(values.numpy(), expected.numpy()) < TOLERANCE
    assert relative_error(gradient.numpy(), expected_gradient.numpy()) < GRADIENT_TOLERANCE


def test_single_precision_is_what_it_says(mrsandbox):
    values, _ = peers.mrsandbox_epoch(epoch.models(), precision="float32")(epoch.pulse(100))
    expected, _ = peers.mrsandbox_epoch(epoch.models())(epoch.pulse(100))
    assert 1e-8 < relative_error(values.numpy(), expected.numpy()) < 1e-3
