"""One design for several spectrometer frequencies: against problems at each frequency alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqgen.axes import ppm_to_hz
from seqgen.design.forward import PlayedShot
from seqgen.design.members import members_of
from seqgen.errors import InputError
from seqgen.pipeline.design_problem import _at_frequency, problem_on_sequence
from seqgen.pipeline.study import load_study
from seqgen.pulse.waveform import RFPulse

OTHER_HZ = 127.7e6
N = 1000


def wave():
    rng = np.random.default_rng(4)
    return torch.as_tensor(80.0 * np.hanning(N) * np.exp(1j * rng.uniform(0, 6)))


def problem_of(study, **changes):
    spec = replace(study.protocol.design, **changes)
    pulse = RFPulse(b1_hz=torch.ones(N, dtype=torch.complex128), dwell_s=2e-5, name="edit")
    return problem_on_sequence(
        replace(study, protocol=replace(study.protocol, design=spec)), pulse, (spec.te1_s, spec.te2_s)
    )


def shot_of(study):
    spec = study.protocol.design
    te1_s, te2_s = (torch.tensor(te_s, dtype=torch.float64) for te_s in (spec.te1_s, spec.te2_s))
    return PlayedShot(b1_hz=wave(), te1_s=te1_s, te2_s=te2_s)


@pytest.fixture(scope="module")
def alone(study):
    """Loss and metrics of one pulse at either frequency by itself."""
    shots = [shot_of(study)]
    here = problem_of(study)
    there = problem_of(_at_frequency(study, OTHER_HZ))
    assert there.carrier_hz == pytest.approx(here.carrier_hz * OTHER_HZ / 123.2e6)
    return here.loss_of_shots(shots)[1], there.loss_of_shots(shots)[1]


def test_mean_and_worst_over_frequencies(study, alone):
    shots, losses = [shot_of(study)], [one.loss for one in alone]
    assert abs(losses[0] - losses[1]) > 1e-3
    expected = {
        "mean": np.mean(losses),
        "worst": max(losses),
        "soft_worst": math.log(np.mean(np.exp(10 * np.array(losses)))) / 10,
    }
    for how, value in expected.items():
        problem = problem_of(study, other_frequencies_hz=(OTHER_HZ,), aggregate=how)
        loss, metrics = problem.loss_of_shots(shots)
        assert float(loss) == metrics.loss == pytest.approx(value, rel=1e-9)
        assert float(problem.loss(shots)) == pytest.approx(value, rel=1e-9)
        assert metrics.signal == pytest.approx(np.mean([one.signal for one in alone]), rel=1e-9)
        assert metrics.contamination == pytest.approx(np.mean([one.contamination for one in alone]), rel=1e-9)
        assert metrics.area_signal == pytest.approx(np.mean([one.area_signal for one in alone]), rel=1e-9)


def test_members_at_both_frequencies(study, alone):
    problem = problem_of(study, other_frequencies_hz=(OTHER_HZ,))
    members = members_of(problem, [shot_of(study)])
    assert members.frequency_hz.tolist() == [123.2e6, OTHER_HZ]
    np.testing.assert_allclose(members.signal, [one.signal for one in alone], rtol=1e-9)
    assert members.mean(members.contamination()) == pytest.approx(np.mean([one.contamination for one in alone]))


def test_the_carrier_stays_at_its_shift(study):
    problem = problem_of(study, other_frequencies_hz=(OTHER_HZ,))
    spec = study.protocol.design
    (other,) = problem.others
    assert other.carrier_hz == ppm_to_hz(spec.carrier_ppm, OTHER_HZ, study.protocol.water_shift_ppm)
    assert other.model.spectrometer_frequency_hz == OTHER_HZ


def test_a_frequency_of_another_field_is_refused(study, tmp_path):
    text = study.path.read_text().replace("  linewidth_hz: 4 ", "  other_frequencies_mhz: [297.2]\n  linewidth_hz: 4 ")
    (tmp_path / "far.yaml").write_text(text)
    with pytest.raises(InputError, match=r"far\.yaml:\d+: 'design.other_frequencies_mhz' is .*within 10%"):
        load_study(tmp_path / "far.yaml")
