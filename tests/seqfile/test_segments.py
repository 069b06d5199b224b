"""Segments for GE's pge2: labels on built blocks, and its rules on files, each with a file that breaks it."""

import hashlib
import math
import re
from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pypulseq as pp
import pytest
import torch
from press_files import random_pulse

from seqgen import library
from seqgen.errors import HardwareLimitError, InputError
from seqgen.seqfile.blocks import Adc, Block, Rf, SampledGradient, Trapezoid
from seqgen.seqfile.events import GradientEvent, LabelChange
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.segments import segment_instances, segment_problems, with_segments
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import GROUP, BuildContext, find_sequence
from seqgen.verify.limits import check_limits

GE = library.scanner("ge_mr750_3t")
PRISMA = library.scanner("siemens_prisma_3t")
FORMATS = ("1.5.0", "1.4.1")
SHAPE = torch.sin(torch.pi * (torch.arange(500, dtype=torch.float64) + 0.5) / 500).to(torch.complex128)
LOBE = Trapezoid(amplitude_hz_per_m=4e5, rise_s=2e-4, flat_s=1e-3, fall_s=2e-4)
PULSE = Rf(b1_hz=300 * SHAPE, raster_s=2e-6, delay_s=1e-4, use="excitation")
ADC = Adc(n_samples=128, dwell_s=1e-4, delay_s=1e-4)


def shot(*, pulse=PULSE, pulse_s=2e-3, lobe=LOBE, wait_s=1e-2, adc=ADC, adc_s=0.0132, labels=None):
    """Excitation, lobe, delay, readout and delay; every event that pge2 cares about may be changed."""
    return [
        Block(duration_s=pulse_s, rf=pulse),
        Block(duration_s=2e-3, gradients=(lobe, None, replace(LOBE, amplitude_hz_per_m=-2e5))),
        Block(duration_s=wait_s),
        Block(duration_s=adc_s, adc=adc, labels=labels or {}),
        Block(duration_s=0.1),
    ]


def scan(*shots_):
    """Blocks of shots and where they start."""
    blocks, starts = [], []
    for one in shots_:
        starts.append(len(blocks))
        blocks += one
    return tuple(blocks), tuple(starts)


def usual(n=4):
    """Two dummy scans, averages in a phase cycle, and a reference with one delay more."""
    cycle = [
        shot(
            pulse=replace(PULSE, phase_rad=math.pi * k),
            adc=replace(ADC, phase_rad=math.pi * k),
            labels={"AVG": k, "REF": 0},
        )
        for k in range(n)
    ]
    return scan(shot(adc=None), shot(adc=None), *cycle, [Block(duration_s=0.05), *shot(labels={"AVG": 0, "REF": 1})])


def write(path, blocks, starts, scanner=GE, form="1.5.0"):
    write_seq(
        blocks,
        path,
        scanner=scanner,
        spectrometer_frequency_hz=127.7e6,
        definitions={"Name": "test"},
        seq_format=form,
        shot_starts=starts,
    )
    return path


def numbers(blocks):
    return [block.labels["TRID"] for block in blocks if "TRID" in block.labels]


# --- Labels on built blocks ------------------------------------------------------------------------------------------


def test_equal_structures_share_a_number_in_order_of_appearance():
    blocks, starts = usual()
    labelled = with_segments(blocks, starts)
    assert numbers(labelled) == [1, 1, 2, 2, 2, 2, 3]
    assert [k for k, block in enumerate(labelled) if "TRID" in block.labels] == list(starts)
    for before, after in zip(blocks, labelled, strict=True):
        assert {name: value for name, value in after.labels.items() if name != "TRID"} == before.labels
        assert (after.rf, after.gradients, after.adc) == (before.rf, before.gradients, before.adc)
        assert after.duration_s == before.duration_s


@pytest.mark.parametrize(
    "changes",
    [
        {"pulse": replace(PULSE, b1_hz=123.4 * SHAPE)},
        {"pulse": replace(PULSE, phase_rad=1.0, frequency_hz=-301.0)},
        {"lobe": replace(LOBE, amplitude_hz_per_m=-1e5)},
        {"adc": replace(ADC, phase_rad=2.0)},
        {"wait_s": 2e-2},
        {"labels": {"AVG": 7}},
    ],
)
def test_amplitude_phase_frequency_and_empty_delays_may_vary(changes):
    assert numbers(with_segments(*scan(shot(), shot(**changes)))) == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"pulse": replace(PULSE, b1_hz=300 * SHAPE**2)},
        {"pulse": replace(PULSE, b1_hz=300 * SHAPE * torch.exp(1j * SHAPE.real))},
        {"pulse": replace(PULSE, delay_s=2e-4)},
        {"pulse": None},
        {"pulse_s": 3e-3},
        {"lobe": replace(LOBE, rise_s=4e-4, flat_s=8e-4)},
        {"lobe": replace(LOBE, delay_s=4e-5)},
        {"lobe": None},
        {"lobe": replace(LOBE, amplitude_hz_per_m=0.0)},
        {"adc": replace(ADC, n_samples=64)},
        {"adc": replace(ADC, dwell_s=5e-5)},
        {"adc": replace(ADC, delay_s=2e-4)},
        {"adc": None},
        {"adc_s": 0.0136},
    ],
)
def test_shapes_times_and_presence_make_another_segment(changes):
    assert numbers(with_segments(*scan(shot(), shot(**changes), shot()))) == [1, 2, 1]


def bump(scale, width=1.0, delay_s=0.0):
    """A sampled gradient that starts and ends at zero."""
    x = np.linspace(-3, 3, 300)
    samples = scale * np.exp(-((x / width) ** 2)) * (1 - (x / 3) ** 2)
    return SampledGradient(sample_hz_per_m=samples, raster_s=4e-6, delay_s=delay_s)


def test_sampled_gradients_are_told_apart_by_shape_and_place(tmp_path):
    scales = scan(*(shot(lobe=bump(scale)) for scale in (1e5, 2e5)))
    assert numbers(with_segments(*scales)) == [1, 1]
    assert segment_problems(read_seq(write(tmp_path / "sampled.seq", *scales)), GE) == []
    assert numbers(with_segments(*scan(shot(lobe=bump(1e5)), shot(lobe=bump(1e5, 0.8))))) == [1, 2]
    assert numbers(with_segments(*scan(shot(lobe=bump(1e5)), shot(lobe=bump(1e5, delay_s=4e-5))))) == [1, 2]
    assert numbers(with_segments(*scan(shot(lobe=bump(1e5)), shot()))) == [1, 2]
    # The same TRID on two shapes, as a file may say.
    first, second = shot(lobe=bump(1e5)), shot(lobe=bump(1e5, 0.8))
    marked = [[replace(one[0], labels={"TRID": 1}), *one[1:]] for one in (first, second)]
    found = segment_problems(read_seq(write(tmp_path / "confused.seq", *scan(*marked))), GE)
    assert found == ["block 7 of TRID 1 has another shape of gradient x than block 2, where the segment is defined"]


def test_blocks_before_the_first_shot_are_a_segment_too():
    blocks, _ = scan([Block(duration_s=1.0)], shot(), shot())
    assert numbers(with_segments(blocks, (1, 6))) == [1, 2, 2]


@pytest.mark.parametrize("starts", [(5, 0), (0, 0, 5), (0, 11), (-5, 0)])
def test_starts_that_are_none_are_refused(starts):
    blocks, _ = scan(shot(), shot())
    with pytest.raises(InputError, match="shot_starts must be ascending indices of the 10 blocks"):
        with_segments(blocks, starts)


# --- Files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ge")
    return {form: write(folder / f"{form}.seq", *usual(), form=form) for form in FORMATS}


def of_pulceq(path):
    """Segments as PulCeq sees them, from PyPulseq's own reading of the file: TRID and kinds, durations of non-delays.

    In the words of seq2ceq.m: every block that sets TRID starts an instance, whatever the value before.
    """
    sequence = pp.Sequence()
    sequence.read(str(path))
    instances = []
    for k in sequence.block_events:
        block = sequence.get_block(k)
        trid = [label.value for label in (block.label or {}).values() if label.label == "TRID"]
        if trid:
            instances.append((trid[0], []))
        kinds = tuple(getattr(block, name) is not None for name in ("rf", "gx", "gy", "gz", "adc"))
        instances[-1][1].append((kinds, round(block.block_duration * 1e9) if any(kinds) else None))
    return instances


@pytest.mark.parametrize("form", FORMATS)
def test_every_instance_sets_its_number_in_the_file(files, form):
    instances = of_pulceq(files[form])
    assert [number for number, _ in instances] == [1, 1, 2, 2, 2, 2, 3]
    for number, blocks in instances:
        assert blocks == next(first for other, first in instances if other == number)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_keeps_the_rules_has_no_problem(files, form):
    seq = read_seq(files[form])
    assert segment_problems(seq, GE) == []
    assert [instance.number for instance in segment_instances(seq)] == [1, 1, 2, 2, 2, 2, 3]


def test_a_segment_is_no_label_of_a_readout(files):
    found = [shot.labels for shot in shots(read_seq(files["1.5.0"]))]
    assert found == [{"AVG": k, "REF": 0} for k in range(4)] + [{"AVG": 0, "REF": 1}]


def test_other_scanners_get_no_segments(tmp_path):
    raster = replace(PULSE, raster_s=1e-6, b1_hz=PULSE.b1_hz.repeat_interleave(2))
    path = write(tmp_path / "prisma.seq", *scan(shot(pulse=raster)), scanner=PRISMA)
    assert "TRID" not in path.read_text()
    assert not [check for check in check_limits(read_seq(path), PRISMA) if check.name.startswith("GE")]


def test_shots_are_not_guessed(tmp_path):
    blocks, _ = usual()
    with pytest.raises(HardwareLimitError, match=r"ge_mr750_3t plays segments, with 117 us .* Give shot_starts"):
        write(tmp_path / "out.seq", blocks, ())
    assert list(tmp_path.iterdir()) == []


def test_labels_of_the_author_stay(tmp_path):
    first, *rest = shot()
    blocks, starts = scan([replace(first, labels={"TRID": 7}), *rest])
    assert [i.number for i in segment_instances(read_seq(write(tmp_path / "out.seq", blocks, starts)))] == [7]


def test_limits_state_what_the_interpreter_adds(files):
    found = {check.name: check for check in check_limits(read_seq(files["1.5.0"]), GE)}
    assert found["GE segments"].status == "passed"
    assert "117 us" in found["GE segments"].note
    assert "7 instances" in found["GE segments"].note
    memory = found["GE waveform memory"]
    assert (memory.status, memory.value) == ("not checked", 500)  # one shape of 500 samples in all segments
    assert not [check.name for check in found.values() if check.status == "failed"]


@pytest.mark.parametrize("scanner", ["ge_mr750_3t", "ge_premier_3t"])
@pytest.mark.parametrize("name", sorted(p.name for p in entry_points(group=GROUP) if "seqgen_sequences" in p.value))
def test_every_built_in_sequence_keeps_the_rules(name, scanner, tmp_path):
    spec = find_sequence(name)
    profile = library.scanner(scanner)
    context = BuildContext(
        scanner=profile,
        spectrometer_frequency_hz=127.7e6,
        water_shift_ppm=4.7,
        editing_pulse=random_pulse(peak_hz=100.0),
    )
    try:
        built = spec.build(sensible_params(spec, context), context)
    except InputError:
        context = replace(context, editing_pulse=None)
        built = spec.build(sensible_params(spec, context), context)
    path = write(tmp_path / "ge.seq", built.blocks, built.shot_starts, profile)
    seq = read_seq(path)
    assert segment_problems(seq, profile) == []
    instances = of_pulceq(path)
    assert len(instances) == len(built.shot_starts)
    # Dummies, averages and references, each with few variants; sign_check has nine kinds of shot.
    assert len({number for number, _ in instances}) <= (11 if name == "sign_check" else 8)
    for number, blocks in instances:
        assert blocks == next(first for other, first in instances if other == number)
    assert not [check for check in check_limits(seq, profile) if check.name == "GE segments" and check.value]


# --- Files that break a rule -----------------------------------------------------------------------------------------


@pytest.fixture
def broken(files, tmp_path):
    """The file with fields (section, row, column) of its text changed, signed anew."""

    def make(fields, form):
        text = files[form].read_text()
        for (section, row, column), value in fields.items():
            head, body = text.split(f"[{section}]\n")
            lines = body.split("\n")
            place = next(k for k, line in enumerate(lines) if line.split()[:1] == [str(row)])
            words = lines[place].split()
            words[column] = str(value)
            lines[place] = " ".join(words)
            text = f"{head}[{section}]\n" + "\n".join(lines)
        body, mark, signature = text.partition("\n[SIGNATURE]")
        digest = hashlib.md5(body.encode()).hexdigest()
        path = tmp_path / "broken.seq"
        path.write_text(body + mark + re.sub(r"Hash \w+", f"Hash {digest}", signature))
        return read_seq(path)

    return make


RF, GX, GY, GZ, READOUT, LABELS = range(2, 8)
"""Columns of [BLOCKS] after number and duration in 4 us; dummy scans start at 1 and 6, averages at 11, 16, 21, 26."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({("BLOCKS", 1, LABELS): 0}, "block 1 has no label TRID"),
        ({("BLOCKS", 16, LABELS): 0}, "instance of TRID 2 at block 21 has 5 blocks, but its first one 10"),
        ({("BLOCKS", 21, LABELS): 0}, "instance of TRID 2 at block 16 has 10 blocks, but its first one 5"),
        (
            {("BLOCKS", 16, 1): 510, ("BLOCKS", 18, 1): 2490},
            r"block 16 of TRID 2 has another duration \(2.04 instead of 2 ms\) than block 11",
        ),
        ({("BLOCKS", 16, RF): 0}, r"block 16 of TRID 2 has other events \(nothing instead of RF\)"),
        ({("BLOCKS", 17, GZ): 0}, r"\(gradient x instead of gradient x \+ gradient z\)"),
        ({("BLOCKS", 17, GX): 0, ("BLOCKS", 17, GY): 1}, r"\(gradient y \+ gradient z instead of gradient x"),
        ({("BLOCKS", 19, READOUT): 0}, r"block 19 of TRID 2 has other events \(nothing instead of readout\)"),
        ({("BLOCKS", 9, READOUT): 1}, r"block 9 of TRID 1 has other events \(readout instead of nothing\)"),
        ({("TRAP", 1, 3): 1002}, "block 2: a corner of gradient x of 1202 us is not on the raster of 4 us"),
        ({("RF", 1, 6): 101, ("RF", 2, 6): 101}, "block 1: the delay of RF of 101 us is not on the raster of 2 us"),
    ],
)
def test_a_broken_file_is_found(broken, fields, problem, form):
    if form == "1.4.1":  # delay of RF: two columns less before it
        fields = {(name, row, 5 if name == "RF" else column): value for (name, row, column), value in fields.items()}
    seq = broken(fields, form)
    found = segment_problems(seq, GE)
    assert re.search(problem, "\n".join(found)), found
    check = next(check for check in check_limits(seq, GE) if check.name == "GE segments")
    assert (check.status, check.value) == ("failed", len(found))
    assert found[0] in check.note


def test_a_number_that_is_counted_up_is_found(files):
    seq = read_seq(files["1.5.0"])
    counted = tuple(replace(label, increment=label.name == "TRID") for label in seq.blocks[0].labels)
    found = segment_problems(replace(seq, blocks=(replace(seq.blocks[0], labels=counted), *seq.blocks[1:])), GE)
    assert any("block 1 counts TRID up" in problem for problem in found), found


def played(tmp_path, *shots_):
    """A file of shots, all of them the same segment unless their structure differs."""
    return read_seq(write(tmp_path / "played.seq", *scan(*shots_)))


@pytest.mark.parametrize(
    ("tail_s", "late_us"),
    [
        (5.6e-5, 150.0),  # room for the ringdown alone, but RF is played 150 us late
        (2.0e-4, 6.0),
        (2.08e-4, None),
    ],
)
def test_rf_near_the_end_of_a_segment_is_found(tmp_path, tail_s, late_us):
    pulse = replace(PULSE, delay_s=7.2e-5)
    last = Block(duration_s=round((7.2e-5 + 1e-3 + tail_s) / 4e-6) * 4e-6, rf=pulse)
    found = segment_problems(played(tmp_path, [*shot(), last]), GE)
    if late_us is None:
        assert found == []
    else:
        assert len(found) == 1
        assert re.search(r"RF in block 6 needs [\d.]+ us after the end of TRID 1", found[0]), found
        assert float(re.search(r"needs ([\d.]+) us", found[0])[1]) == pytest.approx(late_us, abs=4.0)


def test_a_readout_at_the_end_of_a_segment_is_found(tmp_path):
    *most, _ = shot(adc_s=0.01294)  # ends 40 us after the readout, which opens 120 us late
    found = segment_problems(played(tmp_path, most), GE)
    assert found == [
        "the readout in block 4 needs 80 us after the end of TRID 1 (it is played late, and has to decay). Lengthen "
        "the last block"
    ]


def test_a_varying_delay_right_after_rf_is_found(tmp_path):
    """RF ends at 1.1 ms, rings until 1.156 ms and is 150 us late; the delay starts at the end of its block."""

    def spin(wait_s, pulse_s):
        return [
            Block(duration_s=pulse_s, rf=PULSE),
            Block(duration_s=wait_s),
            Block(duration_s=0.0132, adc=ADC),
            Block(duration_s=0.1),
        ]

    assert segment_problems(played(tmp_path, spin(0.01, 1.2e-3), spin(0.01, 1.2e-3)), GE) == []
    found = segment_problems(played(tmp_path, spin(0.01, 1.2e-3), spin(0.02, 1.2e-3)), GE)
    assert found == ["RF in block 1 and the varying delay in block 2 of TRID 1 are 106 us too close for the sequencer"]
    assert segment_problems(played(tmp_path, spin(0.01, 1.308e-3), spin(0.02, 1.308e-3)), GE) == []


def test_a_readout_right_after_rf_is_found(tmp_path):
    """RF is 150 us late and the readout 120: the 96 us between them shrink to 66."""

    def fid(gap_s):
        late = round(1e-4 + 1e-3 + gap_s - 1.2e-3 + 1e-4, 9)
        return [
            Block(duration_s=1.2e-3 - 1e-4 + 6e-5, rf=PULSE),
            Block(duration_s=0.0132 + 1e-4, adc=replace(ADC, delay_s=late - 6e-5)),
            Block(duration_s=0.1),
        ]

    assert segment_problems(played(tmp_path, fid(1.28e-4)), GE) == []
    found = segment_problems(played(tmp_path, fid(1.24e-4)), GE)
    assert len(found) == 1
    assert "RF in block 1 and the readout in block 2 of TRID 1 are 2 us too close" in found[0]


@pytest.mark.parametrize(("duration_s", "whole"), [(1.6e-5, False), (2.0e-5, True)])
def test_an_empty_block_that_is_too_short_is_found(tmp_path, duration_s, whole):
    found = segment_problems(played(tmp_path, [*shot(), Block(duration_s=duration_s)]), GE)
    assert found == ([] if whole else ["block 6 holds nothing and lasts 16 us; a delay needs 20 us"])


def test_times_off_the_raster_are_found(files):
    seq = read_seq(files["1.5.0"])
    pulse = replace(seq.blocks[0], rf=replace(seq.blocks[0].rf, delay_s=1.01e-4), key="late pulse")
    readout = replace(seq.blocks[13], adc=replace(seq.blocks[13].adc, delay_s=1.005e-4), key="late readout")
    long = replace(seq.blocks[4], duration_s=0.100002, key="long")
    blocks = [pulse, *seq.blocks[1:4], long, *seq.blocks[5:13], readout, *seq.blocks[14:]]
    found = "\n".join(segment_problems(replace(seq, blocks=tuple(blocks)), GE))
    assert "block 1: the delay of RF of 101 us is not on the raster of 2 us" in found
    assert "block 5: the duration of 100002 us is not on the raster of 4 us" in found
    assert "block 14: the delay of the readout of 100.5 us is not on the raster of 1 us" in found


@pytest.mark.parametrize(("value", "found"), [(1e3, 0), (5e4, 2)])
def test_gradients_that_are_not_zero_at_the_border_are_found(files, value, found):
    """A polygon from `value` to `value` in the last block of a segment and the first of the next."""
    seq = read_seq(files["1.5.0"])
    ramp = GradientEvent(
        id=9,
        kind="extended",
        delay_s=0.0,
        time_s=np.array([0.0, 0.1]),
        value_hz_per_m=np.array([value, value]),
        key="ramp",
    )
    first = replace(
        seq.blocks[4],
        gradients=(ramp, None, None),
        key="ramp",
        labels=(LabelChange(name="TRID", value=1, increment=False),),
    )
    problems = segment_problems(replace(seq, blocks=(first,)), GE)
    assert len(problems) == found
    if found:
        assert problems[0] == "gradient x is 5e+04 Hz/m where TRID 1 starts, in block 5; it must be zero there"
        assert "where TRID 1 ends" in problems[1]


@pytest.mark.parametrize("form", FORMATS)
def test_shapes_that_differ_within_a_segment_are_found(files, form):
    seq = read_seq(files[form])
    block = seq.blocks[15]
    cases = {
        "another RF shape or delay": replace(block, rf=replace(block.rf, shape_hz=block.rf.shape_hz**2), key="squared"),
        "another RF shape": replace(block, rf=replace(block.rf, delay_s=1.2e-4), key="later"),
        "another shape of gradient x": replace(
            seq.blocks[16],
            gradients=(
                replace(seq.blocks[16].gradients[0], time_s=seq.blocks[16].gradients[0].time_s * 1.02),
                *seq.blocks[16].gradients[1:],
            ),
            key="wider",
        ),
        "another readout": replace(seq.blocks[18], adc=replace(seq.blocks[18].adc, n_samples=124), key="shorter"),
    }
    for problem, changed in cases.items():
        blocks = [changed if one.number == changed.number else one for one in seq.blocks]
        found = segment_problems(replace(seq, blocks=tuple(blocks)), GE)
        assert any(f"block {changed.number} of TRID 2 has {problem}" in one for one in found), (problem, found)
    louder = replace(block, rf=replace(block.rf, shape_hz=0.5 * block.rf.shape_hz), key="half")
    blocks = [louder if one.number == louder.number else one for one in seq.blocks]
    assert segment_problems(replace(seq, blocks=tuple(blocks)), GE) == []


def test_more_blocks_than_are_supervised_are_told(files):
    seq = read_seq(files["1.5.0"])
    many = replace(seq, blocks=seq.blocks * 1200)
    check = next(check for check in check_limits(many, GE) if check.name == "GE segments")
    assert check.status == "passed"
    assert f"first 40000 of {1200 * seq.n_blocks} blocks" in check.note
