"""The crushers of every localised sequence: moments as PyPulseq reads them, and all pathways of coupled spins."""

import itertools

import numpy as np
import pytest
from localised import KINDS, SIZE_M, shots_of
from press_files import F0_HZ, WATER_PPM, write

from seqgen.library import scanner, spin_system
from seqgen.pipeline.build import _from_excitation
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import BuildContext
from seqgen.simulate.dephasing import crusher_verdict, pathway_signals
from seqgen.spin.hamiltonian import molecule_models

PRISMA = BuildContext(
    scanner=scanner("siemens_prisma_3t"),
    spectrometer_frequency_hz=F0_HZ,
    water_shift_ppm=WATER_PPM,
    editing_pulse=None,
)
EXTENT_M = (0.08, 0.09, 0.1)
WANTED = {
    "press": (-1, 1, -1),
    "mega_press": (-1, 1, 1, -1, -1),
    "steam": (1, 0, -1),
    "slaser": (-1, 1, -1, 1, -1),
    "isis_press": (-1, 1, -1),
}


def moments_between_centres(blocks):
    """Moments from RF centre to RF centre, at last to the readout, cycles per metre, shape (n_pulses, 3)."""
    rows, moment = [], np.zeros(3)
    for block in blocks:
        if block.rf is None:
            moment = moment + block.moment_per_m(block.duration_s)
            continue
        centre = block.moment_per_m(block.rf.delay + block.rf.center)
        rows.append(moment + centre)
        moment = block.moment_per_m(block.duration_s) - centre
    return np.array([*rows[1:], moment])


@pytest.mark.parametrize("highest", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_pathway_keeps_less_than_20_cycles_over_the_voxel(tmp_path, kind, highest):
    """The moment sum_k p_k k_k of every pathway of orders up to `highest`, whatever the pulses make of it."""
    blocks = shots_of(kind, tmp_path)[-1]
    moments = moments_between_centres(blocks)[-len(WANTED[kind]) :]
    orders = range(-highest, highest + 1)
    paths = np.array([(*path, -1) for path in itertools.product(orders, repeat=len(moments) - 1)])
    left = np.linalg.norm(paths @ moments, axis=1)
    wanted = (paths == WANTED[kind]).all(1)
    assert left[wanted].max() < 1.0
    assert left[~wanted].min() > 20 / min(SIZE_M)


def cycle_of(kind, folder, condition, **changes):
    """The metabolite shots of one editing condition from the excitation on; of ISIS those of the inversion alone."""
    made = KINDS[kind]
    params = sensible_params(
        made.spec,
        PRISMA,
        averages=made.steps,
        adc_samples=512,
        voxel_size_m=(0.02, 0.02, 0.02),
        dummy_scans=0,
        water_suppression="none",
        **changes,
    )
    path = write(folder / f"{kind}.seq", made.spec.build(params, PRISMA), scanner=PRISMA.scanner)
    cycle = phase_cycle(shots(read_seq(path)), condition=condition if made.sets > 1 else None)
    return [_from_excitation(shot, path) for shot in (cycle[::2] if kind == "isis_press" else cycle)]


def verdict(kind, folder, metabolite, *, condition=0, **changes):
    """The verdict on all pathways of a metabolite's largest spin group, refocused ones unwanted too."""
    models = molecule_models(spin_system(metabolite), F0_HZ, WATER_PPM)
    model = max(models, key=lambda model: model.dimension)
    table = pathway_signals(cycle_of(kind, folder, condition, **changes), model, extent_m=EXTENT_M)
    return crusher_verdict(table, refocused_is_signal=False)


@pytest.mark.parametrize("kind", ["press", "steam", "isis_press"])
def test_nothing_but_the_echo_of_lactate_is_left(tmp_path, kind):
    judged = verdict(kind, tmp_path, "Lac")
    assert judged.wanted.orders == WANTED[kind]
    assert judged.sufficient
    assert judged.total_ratio < 1e-4


@pytest.mark.parametrize("condition", [0, 1])
def test_nothing_but_the_echo_of_creatine_is_left_in_mega_press(tmp_path, condition):
    judged = verdict("mega_press", tmp_path, "Cr", condition=condition)
    assert judged.wanted.orders == WANTED["mega_press"]
    assert judged.sufficient


def test_nothing_but_the_echo_of_creatine_is_left_in_slaser(tmp_path):
    judged = verdict("slaser", tmp_path, "Cr")
    assert judged.wanted.orders == WANTED["slaser"]
    assert judged.sufficient


def test_weak_crushers_are_noticed(tmp_path):
    judged = verdict("press", tmp_path, "Lac", crusher_moment_per_m=1.0)
    assert not judged.sufficient


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["press", "steam"])
def test_nothing_but_the_echo_of_glutamate_is_left(tmp_path, kind):
    judged = verdict(kind, tmp_path, "Glu")
    assert judged.sufficient
    assert judged.total_ratio < 1e-4
