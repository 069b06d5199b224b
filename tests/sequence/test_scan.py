"""The order of a scan's shots, short gaps, and what is refused, on built blocks."""

from dataclasses import replace

import pytest
from press_files import F0_HZ, WATER_PPM, context

from seqgen import library
from seqgen.errors import InputError
from seqgen.library import spin_system
from seqgen.seqfile.blocks import Block
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import BuildContext, find_sequence
from seqgen.sequence.train import SHORTEST_DELAY_S, after_gap
from seqgen.simulate.molecule import molecule_lines
from seqgen.simulate.pathways import principal_echo, still_pulses

GE = library.scanner("ge_premier_3t")


def built(name, where=None, **changes):
    spec, where = find_sequence(name), where or context()
    params = sensible_params(spec, where, averages=8, dummy_scans=1, adc_samples=256)
    return spec.build(replace(params, **changes), where)


def kinds(name, **changes):
    """Each acquired shot as a letter: N noise, R reference, then the editing condition."""
    found = built_shots(built(name, **changes).blocks, context().scanner, name)
    return "".join(
        "N" if shot.labels.get("NOISE") else "R" if shot.labels["REF"] else str(shot.labels["SET"]) for shot in found
    )


def test_references_stand_between_averages_and_what_is_left_at_the_end():
    assert kinds("press", water_reference_averages=4, water_reference_interval=3) == "000R000R00RR"
    assert kinds("press", water_reference_averages=2, water_reference_interval=0, noise_scans=2) == "NN00000000RR"


def test_editing_conditions_take_turns_and_references_do_not_part_them():
    assert kinds("mega_press", water_reference_averages=2, water_reference_interval=4) == "0101R0101R"
    with pytest.raises(InputError, match="water_reference_interval must be 0 or a multiple of 2 up to averages"):
        built("mega_press", water_reference_averages=2, water_reference_interval=3)


def test_references_of_isis_come_in_pairs():
    assert kinds("isis_press", water_reference_averages=4, water_reference_interval=2) == "00RR00RR0000"


def test_a_reference_interval_beyond_the_scan_is_refused():
    with pytest.raises(InputError, match=r"water_reference_interval must be .* up to averages \(8\), but is 1000"):
        built("press", water_reference_averages=2, water_reference_interval=1000)


def test_counters_are_set_before_anything_is_played():
    first = built("steam", noise_scans=1).blocks[0]
    assert first.labels == {"AVG": 0, "SET": 0, "PHS": 0, "REP": 0, "REF": 0, "NOISE": 0}


@pytest.mark.parametrize("name", ["press", "mega_press", "steam", "slaser", "isis_press"])
@pytest.mark.parametrize("beyond_us", [8, 16, 24])
def test_echo_and_repetition_times_just_above_the_minimum_leave_no_block_that_ge_cannot_play(name, beyond_us):
    where = BuildContext(scanner=GE, spectrometer_frequency_hz=127.7e6, water_shift_ppm=4.7)
    spec = find_sequence(name)
    params = sensible_params(spec, where, averages=8, adc_samples=256)
    times = {key: getattr(params, key) for key in ("te1_s", "te2_s", "te_s", "tm_s", "tr_s") if hasattr(params, key)}
    for key, value in times.items():
        more = {key: round(value + beyond_us * 1e-6, 9)}
        if name == "mega_press" and key == "te1_s":  # its TE2 has a minimum that grows with TE1
            more["te2_s"] = round(times["te2_s"] + beyond_us * 1e-6, 9)
        made = spec.build(replace(params, **more), where)
        assert min(block.duration_s for block in made.blocks) >= 20e-6 - 1e-12, key


def test_the_least_repetition_time_that_an_error_names_is_accepted():
    where = BuildContext(scanner=GE, spectrometer_frequency_hz=127.7e6, water_shift_ppm=4.7)
    with pytest.raises(InputError, match="tr_s must be at least") as refusal:
        built("press", where, tr_s=0.3, adc_samples=1904)
    least_s = float(str(refusal.value).split("at least ")[1].split(" s ")[0])
    assert built("press", where, tr_s=least_s, adc_samples=1904).blocks


def test_a_short_gap_lengthens_the_block_before_it():
    blocks = [Block(duration_s=1e-3), Block(duration_s=2e-3)]
    for gap_s in (1e-5, 2e-5, SHORTEST_DELAY_S, 1e-3):
        longer = after_gap(blocks, gap_s, 1e-5)
        assert sum(block.duration_s for block in longer) == pytest.approx(3e-3 + gap_s, abs=1e-12)
        assert len(longer) == (2 if gap_s < SHORTEST_DELAY_S else 3)
    assert after_gap(blocks, 0.0, 1e-5) == blocks


@pytest.mark.parametrize("name", ["press", "mega_press", "steam", "slaser", "isis_press"])
def test_an_unknown_phase_cycle_is_refused_by_name(name):
    with pytest.raises(InputError, match=r"phase_cycle must be one of two_step, .*, but is exor"):
        built(name, phase_cycle="exor")


def test_an_error_of_two_pulses_names_them():
    with pytest.raises(InputError, match="between excitation and refocusing 1, which is not on the block raster"):
        built("press", excitation_duration_s=2.61e-3, te1_s=0.02)


def test_a_long_preparation_is_followed_at_order_zero_and_files_convert(tmp_path):
    """VAPOR and six slabs ahead of PRESS: sixteen pulses, of which thirteen leave the order at 0."""
    where = context()
    made = built("press", where, water_suppression="vapor", outer_volume_suppression=True, outer_volume_duration_s=5e-3)
    (first,) = phase_cycle(built_shots(made.blocks, where.scanner, "long"))[:1]
    assert len(first.pulses()) == 16
    assert still_pulses(first) == 13
    echo = principal_echo(first)  # slabs too are followed: only the spins leave them out
    assert echo.pathway.orders == (0,) * 13 + (-1, 1, -1)
    bare = phase_cycle(built_shots(built("press", where, water_suppression="none").blocks, where.scanner, "bare"))
    assert echo.te_s == pytest.approx(principal_echo(bare).te_s, abs=1e-12)
    amplitudes = [
        molecule_lines(cycle, spin_system("Glu"), spectrometer_frequency_hz=F0_HZ, reference_ppm=WATER_PPM).amplitude
        for cycle in ([first], bare[:1])
    ]
    # What the suppression takes of lines far from water: less than 3 % (test_suppression.py).
    assert float(abs(amplitudes[0]).sum()) == pytest.approx(float(abs(amplitudes[1]).sum()), rel=0.05)
