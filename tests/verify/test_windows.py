"""Sliding windows of RF power, against closed forms and a search over every millisecond."""

import math
from dataclasses import replace

import numpy as np
import pytest
from press_files import SCANNER

from seqgen import library
from seqgen.exposure import Exposure, ExposureLimits, SarLimit
from seqgen.seqfile.events import Block, Rasters, RfEvent, SeqFile
from seqgen.verify.limits import check_exposure
from seqgen.verify.windows import PIECES, cumulative_energy, worst_mean_square_hz2

GAMMA_HZ_PER_UT = 42.577478461


def pulse(number, shape_hz, dwell_s, delay_s=0.0):
    shape_hz = np.asarray(shape_hz, complex)
    return RfEvent(
        id=number,
        shape_hz=shape_hz,
        dwell_s=dwell_s,
        delay_s=delay_s,
        centre_s=0.5 * shape_hz.size * dwell_s,
        frequency_hz=0.0,
        phase_rad=0.0,
        use="preparation",
        key=str(number),
    )


def made(blocks):
    """A file of (duration in s, pulse or None)."""
    return SeqFile(
        name="made.seq",
        sha256="",
        version=(1, 5, 0),
        definitions={},
        signature=None,
        rasters=Rasters(adc_s=1e-7, block_s=1e-5, gradient_s=1e-5, rf_s=1e-6),
        blocks=tuple(
            Block(number=k, duration_s=t_s, rf=rf, gradients=(None,) * 3, adc=None, labels=(), key="")
            for k, (t_s, rf) in enumerate(blocks)
        ),
        total_duration_s=sum(t_s for t_s, _ in blocks),
    )


def repeated(n, tr_s, peak_hz=400.0, pulse_s=5e-3):
    """A rectangle every TR."""
    rf = pulse(1, np.full(round(pulse_s / 1e-5), peak_hz), 1e-5, delay_s=0.1)
    return made([(tr_s, rf)] * n)


@pytest.mark.parametrize(
    ("n", "tr_s", "window_s", "pulses_per_window"),
    [
        (40, 2.0, 10.0, 5),
        (40, 1.5, 10.0, 7),
        (40, 3.0, 10.0, 4),
        (400, 2.0, 360.0, 180),
        (3, 2.0, 6.0, 3),
    ],
)
def test_rectangles_every_tr(n, tr_s, window_s, pulses_per_window):
    """Rectangles of 5 ms: a window holds ceil(W / TR) of them where it is not a hair too short for the last."""
    corners = cumulative_energy(repeated(n, tr_s))
    mean = pulses_per_window * 400.0**2 * 5e-3 / window_s
    assert worst_mean_square_hz2(*corners, window_s) == pytest.approx(mean, rel=1e-9)


def test_a_short_file_is_averaged_over_itself():
    seq = repeated(2, 1.5)
    mean = 2 * 400.0**2 * 5e-3 / 3.0
    for window_s in (3.0, 10.0, 360.0):
        assert worst_mean_square_hz2(*cumulative_energy(seq), window_s) == pytest.approx(mean, rel=1e-9)


def test_a_window_shorter_than_a_pulse_holds_its_strongest_part():
    ramp = pulse(1, np.linspace(0, 1000, PIECES), 1e-3)
    corners = cumulative_energy(made([(1.0, ramp)]))
    last = np.linspace(0, 1000, PIECES)[-10:]
    assert worst_mean_square_hz2(*corners, 0.01) == pytest.approx(float((last**2).mean()), rel=1e-9)


def test_a_window_that_ends_with_a_pulse():
    """4 s of 1 Hz^2, 1 s of 10, then rest: the worst 2 s begin where nothing else does."""
    blocks = [(4.0, pulse(1, [1.0], 4.0)), (1.0, pulse(2, [10**0.5], 1.0)), (6.0, None)]
    assert worst_mean_square_hz2(*cumulative_energy(made(blocks)), 2.0) == pytest.approx(5.5)
    assert worst_mean_square_hz2(*cumulative_energy(made(blocks[::-1])), 2.0) == pytest.approx(5.5)


@pytest.mark.parametrize("seed", range(4))
def test_against_every_millisecond(seed):
    """Random pulses of whole milliseconds: windows on the millisecond are all there are."""
    random = np.random.default_rng(seed)
    blocks, power = [], []
    for k in range(60):
        n, rest = int(random.integers(1, 40)), int(random.integers(1, 400))
        shape = random.uniform(0, 500, n) * (random.random() < 0.7)
        blocks.append(((n + rest) * 1e-3, pulse(k, shape, 1e-3)))
        power += [*(shape**2), *([0.0] * rest)]
    spent = np.concatenate([[0.0], np.cumsum(power)]) * 1e-3
    corners = cumulative_energy(made(blocks))
    for window in (13, 700, 5000):
        brute = (spent[window:] - spent[:-window]).max() / (window * 1e-3)
        assert worst_mean_square_hz2(*corners, window * 1e-3) == pytest.approx(brute, rel=1e-9)


# --- B1+rms and SAR of a file ----------------------------------------------------------------------------------------


def limits(**changes):
    given = {
        "operating_mode": "normal",
        "sar": (),
        "b1_rms_max_t": None,
        "b1_rms_stated_by": "",
        "b1_rms_window_s": 10.0,
    }
    return ExposureLimits(**(given | changes))


def rows(seq, stated):
    return {check.name: check for check in check_exposure(seq, stated)}


RMS_UT = math.sqrt(5 * 400.0**2 * 5e-3 / 10) / GAMMA_HZ_PER_UT


@pytest.mark.parametrize(("factor", "status"), [(1.0001, "passed"), (0.9999, "failed")])
def test_b1_rms_against_a_stated_limit(factor, status):
    found = rows(repeated(40, 2.0), limits(b1_rms_max_t=factor * RMS_UT * 1e-6, b1_rms_stated_by="protocol"))
    row = found["B1+rms over the worst 10 s"]
    assert (row.status, row.note) == (status, "limit of protocol")
    assert row.value == pytest.approx(RMS_UT, rel=1e-9)
    assert found["B1+rms over the worst 6 min"].status == "not checked"
    assert found["SAR"].status == "not checked"


@pytest.mark.parametrize(("factor", "status"), [(1.0001, "passed"), (0.9999, "failed")])
def test_sar_is_the_coefficient_times_the_mean_square(factor, status):
    """20 W/kg per uT^2, made up: rectangles at TR 3 s put four into the worst 10 s, but 120 into 6 min."""
    mean_ut2 = {window_s: n * 400.0**2 * 5e-3 / window_s / GAMMA_HZ_PER_UT**2 for window_s, n in ((10, 4), (360, 120))}
    sar = tuple(
        SarLimit(region="head", window_s=w, max_w_per_kg=factor * 20 * mean, w_per_kg_per_ut2=20.0)
        for w, mean in mean_ut2.items()
    )
    absent = SarLimit(region="whole body", window_s=360.0, max_w_per_kg=2.0, w_per_kg_per_ut2=None)
    found = rows(repeated(200, 3.0), limits(sar=(*sar, absent)))
    for window, window_s in (("10 s", 10), ("6 min", 360)):
        row = found[f"SAR of the head over the worst {window}"]
        assert row.status == status
        assert row.value == pytest.approx(20 * mean_ut2[window_s], rel=1e-9)
    assert found["SAR of the whole body over the worst 6 min"].status == "not checked"
    assert "SAR" not in found


def test_without_a_coefficient_no_sar_is_stated():
    found = rows(repeated(40, 2.0), library.exposure_limits(SCANNER, Exposure(operating_mode="first_level")))
    assert found["SAR"].status == "not checked"
    assert [row.status for row in found.values()] == ["not checked"] * 3


def test_limits_of_a_made_up_profile():
    """Head 3.2 W/kg over 6 min in both modes, whole body 2 and 4; twice that over 10 s."""
    machine = replace(SCANNER, sar_head_w_per_kg_per_ut2=10.0, b1_rms_max_t=2e-6)
    for mode, body in (("normal", 2.0), ("first_level", 4.0)):
        got = library.exposure_limits(machine, Exposure(operating_mode=mode, b1_rms_max_t=2.8e-6))
        assert {(s.region, s.window_s): s.max_w_per_kg for s in got.sar} == {
            ("head", 10.0): 6.4,
            ("head", 360.0): 3.2,
            ("whole body", 10.0): 2 * body,
            ("whole body", 360.0): body,
        }
        assert [s.region for s in got.stated_sar] == ["head", "head"]
        assert (got.b1_rms_max_t, got.b1_rms_stated_by) == (2e-6, "test scanner")
