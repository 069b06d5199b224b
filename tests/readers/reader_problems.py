"""What each reader says of a file: a list of problems.

MRzeroCore is AGPL: it is installed for these tests alone, and seqgen never imports it.
"""

import contextlib
import importlib.metadata
import io
import json
import math
import re

import numpy as np
from reader_trains import (
    ADC_PHASE,
    EDIT,
    FIELD_OF_VIEW_M,
    INVERT,
    PROJECTIONS,
    RF_PHASE,
    SIGN_KINDS,
    SLABS,
    WAVEFORM_PHASE,
    Readout,
    apart_rad,
    condition,
    echo_problems,
    edit_problems,
    labels,
    late_problems,
    n_pulses,
    off_receiver_rad,
    pulse_numbers,
    shots,
    sign_check_problems,
)

ISOCHROMAT = {"PD": 1.0, "T1": 1e6, "T2": 1e6, "T2dash": 1e6, "D": 0.0, "voxel_size": 0.02}
"""A small voxel that does not relax: what is left is what pulses, gradients and offset do."""
SIGN_SEGMENTS = 11
"""Structures of the sign check: dummy scans; the Gaussian; waveforms turning one way, the other way, and times i;
projections and slabs along each axis."""


def sequence_of(path):
    """Name of the sequence in a file."""
    return path.stem.removesuffix("_141")


def expected(path):
    """What the protocol of a file asked for."""
    return json.loads((path.parent / "expected.json").read_text())[sequence_of(path)]


def total_s(path):
    """Duration of the scan, s."""
    wanted = expected(path)
    return len(shots(sequence_of(path), wanted)) * wanted["tr_s"]


def limits(path):
    """The scanner's limits as keywords of Opts: every raster, dead time and limit stated."""
    rows = re.findall(r"(?m)^(\w+): (.*)$", (path.parent / "limits.txt").read_text())
    return {name: value if name.endswith("unit") else float(value) for name, value in rows}


# --- pulserver -------------------------------------------------------------------------------------------------------


def pulserver_problems(path):
    """Timing, gradients and slew against the scanner's limits; signature; waveforms after conversion to segments."""
    import pypulseqpp
    from pulserver import ir

    # The command line itself, in this process: its imports take longer than its answer.
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="pulserver")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = command.load()(["validate", str(path), "--limits", str(path.parent / "limits.txt")])
    agrees = status == 0 and "the sequence agrees with the ir waveforms" in out.getvalue()
    return ([] if agrees else [f"validate: {out.getvalue()}"]) + [
        f"ir.check: {problem}" for problem in ir.check(path, pypulseqpp.Opts(**limits(path)))
    ]


def segment_problems(path, cache):
    """GE: shots as pulserver plays them after conversion. Where a TRID is set a shot starts; shots of one TRID hold the
    same events for the same time, empty blocks aside."""
    import pypulseqpp
    from pulserver import ir

    system = pypulseqpp.Opts(**limits(path))
    sequence = pypulseqpp.Sequence(system)
    sequence.read(path)
    copied = cache / path.name
    copied.write_text(path.read_text())
    ir.convert(copied, system)
    blocks = ir.play(copied)
    starts = [int(number) - 1 for number in sequence.label_blocks("TRID")]
    if starts[:1] != [0]:
        return [f"the first segment starts at block {starts[:1]}"]
    name, wanted = sequence_of(path), expected(path)
    numbers = [int(blocks["trid"][k]) for k in starts]
    problems = [] if len(starts) == len(shots(name, wanted)) else [f"{len(starts)} segments played"]
    # Noise, dummy scans, averages, water references; dummy scans and averages of each shot of a design by themselves
    # (alike in ON and OFF shots of MEGA-PRESS, with and without inversion).
    n_sets = len(wanted.get("sets", (None,)))
    kinds = {"noise_scans": 1, "dummy_scans": n_sets, "averages": n_sets, "water_reference_averages": 1}
    n_kinds = SIGN_SEGMENTS if name == "sign_check" else sum((wanted[kind] > 0) * n for kind, n in kinds.items())
    if len(set(numbers)) != n_kinds:
        problems.append(f"TRID {sorted(set(numbers))} instead of {n_kinds}")
    played = np.column_stack(
        [blocks["rf_amp_hz"] != 0, blocks["rf_delay_us"], blocks["adc"], blocks["adc_delay_us"], blocks["adc_samples"]]
        + [blocks["gradient_hz_per_m"][:, axis] != 0 for axis in range(3)]
    )
    duration_us = np.where(played.any(axis=1), blocks["duration_us"], 0)
    defined = {}
    for number, first, after in zip(numbers, starts, [*starts[1:], len(duration_us)], strict=True):
        instance = np.column_stack([played, duration_us])[first:after].tolist()
        if defined.setdefault(number, instance) != instance:
            problems.append(f"TRID {number} at block {first + 1} is not what it was")
    return problems


def played_edit_problems(path, cache):
    """Editing pulses as pulserver plays them after conversion: their peaks."""
    import pypulseqpp
    from pulserver import ir

    copied = cache / path.name
    copied.write_text(path.read_text())
    ir.convert(copied, pypulseqpp.Opts(**limits(path)))
    blocks = ir.play(copied)
    name, wanted = sequence_of(path), expected(path)
    middle_us = np.cumsum(blocks["duration_us"]) - blocks["duration_us"] / 2
    problems = []
    for shot, row in enumerate(shots(name, wanted)):
        ours = blocks["rf_amp_hz"][(1e-6 * middle_us // wanted["tr_s"] == shot) & (blocks["rf_amp_hz"] != 0)]
        problems += edit_problems(name, wanted, shot, row, [{"peak_hz": peak_hz} for peak_hz in ours])
    return problems


# --- pypulseq --------------------------------------------------------------------------------------------------------


def pypulseq_problems(path):
    """Timing as pypulseq reads the file; editing pulses."""
    import pypulseq

    name, wanted = sequence_of(path), expected(path)
    sequence = pypulseq.Sequence(pypulseq.Opts(**limits(path)))
    sequence.read(str(path))
    problems = [str(row) for row in sequence.check_timing()[1]]
    if "sets" not in wanted:
        return problems
    rows = shots(name, wanted)
    pulses, time_s = [[] for _ in rows], 0.0
    for number, duration_s in sequence.block_durations.items():
        rf = sequence.get_block(number).rf
        if rf is not None:
            middle_s = time_s + rf.delay + rf.shape_dur / 2
            pulses[int(middle_s // wanted["tr_s"])].append(pulse_numbers(rf.signal, rf.shape_dur / len(rf.signal)))
        time_s += duration_s
    for shot, (row, ours) in enumerate(zip(rows, pulses, strict=True)):
        problems += edit_problems(name, wanted, shot, row, ours)
    return problems


# --- pypulseqpp ------------------------------------------------------------------------------------------------------


def pypulseqpp_problems(path):
    """Signature, timing, labels; editing pulses; echo and phases of every readout from its own tables of pulses and
    samples."""
    import pypulseqpp

    name, wanted = sequence_of(path), expected(path)
    sequence = pypulseqpp.Sequence(pypulseqpp.Opts(**limits(path)))
    try:
        sequence.read(path, verify=True)
    except RuntimeError as error:
        return [f"read: {error}"]
    _, found = pypulseqpp.check_timing(sequence)
    problems = [f"check_timing: block {row.block} {row.error_type}" for row in found]
    if abs(sequence.duration()[0] - total_s(path)) > 1e-9:
        problems.append(f"{sequence.duration()[0]} s in all")
    problems += label_problems(sequence, path)

    pulses = sequence.rf_times(compat=False)
    sample_s, windows = sequence.adc_times()
    if sample_s.size != len(windows) * wanted["adc_samples"]:
        return [*problems, f"{sample_s.size} samples in {len(windows)} readouts"]
    first_s = sample_s[:: wanted["adc_samples"]]
    rows = shots(name, wanted)
    played = [k for k, row in enumerate(rows) if "AVG" in row]
    if len(first_s) != len(played) or (first_s // wanted["tr_s"]).astype(int).tolist() != played:
        return [*problems, f"readouts at {first_s} s"]
    readouts = []
    for shot, row in enumerate(rows):
        train, _ = condition(name, wanted, row)
        n_train = len(train.uses)
        ours = np.flatnonzero(pulses.t // wanted["tr_s"] == shot)
        if len(ours) != n_pulses(name, wanted, row):
            return [*problems, f"shot {shot}: {len(ours)} pulses"]
        if len(ours) == 0:
            continue
        if "sets" in wanted:
            waves = [sequence.get_block(int(pulses.block[k])).rf for k in ours]
            numbers = [pulse_numbers(rf.signal, rf.shape_dur / len(rf.signal)) for rf in waves]
            problems += edit_problems(name, wanted, shot, row, numbers)
        ours = ours[-n_train:]
        uses = tuple(pulses.use[k] for k in ours)
        # 1.4 does not say what pulses are for where this reader looks.
        if uses != (("undefined",) * n_train if path.stem.endswith("_141") else train.uses):
            problems.append(f"shot {shot}: pulses for {uses}")
        if shot in played:
            number = played.index(shot)
            readout = Readout(
                first_sample_s=first_s[number],
                receiver_hz=windows[number, 0],
                receiver_rad=windows[number, 1],
                centre_s=pulses.t[ours],
                phase_rad=pulses.phase_offset[ours],
                carrier_hz=pulses.freq_offset[ours],
            )
            readouts.append(readout)
            if name != "sign_check":
                problems += echo_problems(name, wanted, number, row, readout)
    return problems + (sign_check_problems(readouts, wanted) if name == "sign_check" else [])


def label_problems(sequence, path):
    """Labels at every readout, and all of them set in the first block."""
    rows = labels(sequence_of(path), expected(path))
    found = sequence.evaluate_labels(evolution="adc")
    problems = [
        f"label {label}: {found.get(label)}"
        for label in rows[0]
        if list(found.get(label, ())) != [row[label] for row in rows]
    ]
    # The sign check sets its labels at its readouts.
    first = () if sequence_of(path) == "sign_check" else rows[0]
    return problems + [f"label {label} not set at first" for label in first if 1 not in sequence.label_blocks(label)]


# --- pydisseqt -------------------------------------------------------------------------------------------------------


def pydisseqt_problems(path):
    """1.4 files: the echo from RF centres, the phases there, the readouts and editing pulses, by its event search."""
    import pydisseqt

    name, wanted = sequence_of(path), expected(path)
    try:
        sequence = pydisseqt.load_pulseq(str(path))
    except pydisseqt.ParseError as error:
        return [f"load_pulseq: {error}"]
    problems = []
    if abs(sequence.duration() - total_s(path)) > 1e-6:
        problems.append(f"{sequence.duration()} s in all")
    pulses, windows = (encounters(sequence, kind) for kind in ("rf", "adc"))
    rows = labels(name, wanted)
    if len(windows) != len(rows):
        return [*problems, f"{len(windows)} readouts"]
    readouts = []
    for number, (row, (start_s, end_s)) in enumerate(zip(rows, windows, strict=True)):
        n_train = len(condition(name, wanted, row)[0].uses)
        if abs(end_s - start_s - wanted["adc_samples"] * wanted["adc_dwell_s"]) > 1e-6:
            problems.append(f"readout of {end_s - start_s} s")
        ours = [
            pulse for pulse in pulses if pulse[1] < start_s and pulse[0] // wanted["tr_s"] == start_s // wanted["tr_s"]
        ]
        if len(ours) != n_pulses(name, wanted, row):
            return [*problems, f"readout {number}: {len(ours)} pulses"]
        if not ours:
            continue
        if "sets" in wanted:
            numbers = [sampled_pulse(sequence, *pulse) for pulse in ours]
            problems += edit_problems(name, wanted, f"of readout {number}", row, numbers)
        samples = [sequence.sample_one((a + b) / 2).pulse for a, b in ours[-n_train:]]
        receiver = sequence.sample_one((start_s + end_s) / 2).adc
        readout = Readout(
            first_sample_s=start_s + wanted["adc_dwell_s"] / 2,
            receiver_hz=receiver.frequency,
            # Its phase turns back with its frequency.
            receiver_rad=receiver.phase + math.pi * receiver.frequency * (end_s - start_s),
            centre_s=[(a + b) / 2 for a, b in ours[-n_train:]],
            # The offset at its start, then its frequency.
            phase_rad=[
                sample.phase + math.pi * sample.frequency * (b - a)
                for sample, (a, b) in zip(samples, ours[-n_train:], strict=True)
            ],
            carrier_hz=[sample.frequency for sample in samples],
        )
        readouts.append(readout)
        if name != "sign_check":
            problems += echo_problems(name, wanted, number, row, readout)
    # Its phases are those of the waveform, too.
    times_i = {WAVEFORM_PHASE: math.pi / 2}
    return problems + (sign_check_problems(readouts, wanted, times_i) if name == "sign_check" else [])


def sampled_pulse(sequence, start_s, end_s, step_s=2e-5):
    """Peak and net flip angle of a pulse that is constant for every step."""
    n_steps = round((end_s - start_s) / step_s)
    pulse = sequence.sample([start_s + (k + 0.5) * step_s for k in range(n_steps)]).pulse
    return pulse_numbers(np.asarray(pulse.amplitude) * np.exp(1j * np.asarray(pulse.phase)), step_s)


def encounters(sequence, kind):
    """(start, end) of all events of a kind, s."""
    found, time_s = [], 0.0
    while (event := sequence.encounter(kind, time_s)) is not None:
        found.append(event)
        time_s = event[1] + 1e-9
    return found


# --- MRzeroCore ------------------------------------------------------------------------------------------------------


def mrzero_problems(path):
    """Bloch simulation of every readout: echo at TE within a dwell, and in phase with the receiver.

    Pulses are instantaneous and selective for nothing. So adiabatic refocusing pulses, whose net flip angle means
    nothing, are played as half a turn about the phase that MRzeroCore gives them, which cancels in pairs. ISIS starts
    at the excitation, from +z; of its inversion is checked only in which shots it has an amplitude. Editing pulses are
    left out, as they hardly act on the water that is simulated; with them (as turns of everything) the crushers of
    MEGA-PRESS, whose pulses turn by 180 degrees, must leave nothing, and of two designed pulses that turn by a and b
    cos^2(a/2) cos^2(b/2): what keeps its order.
    Which slice is selected is not checked. An offset of B0 turns the first sample by 2 pi times the offset times its
    distance from the echo.
    """
    import MRzeroCore as mr0

    name, wanted = sequence_of(path), expected(path)
    try:
        sequence = mr0.Sequence.import_file(str(path))
    except ValueError as error:
        return [f"import_file: {error}"]
    last = [number for number, repetition in enumerate(sequence) if bool((repetition.adc_usage > 0).any())]
    # What precedes the first pulse is not imported: noise scans.
    rows = [row for row in labels(name, wanted) if not row.get("NOISE")]
    if len(last) != len(rows):
        return [f"{len(last)} readouts"]
    trains = [condition(name, wanted, row)[0] for row in rows]
    n_trains = [len(train.uses) - train.uses.count(INVERT) for train in trains]
    before = [sequence[number - n_train] for number, n_train in zip(last, n_trains, strict=True)]
    shots_of_it = [
        mr0.Sequence(sequence[number + 1 - n_train : number + 1], sequence.normalized_grads)
        for number, n_train in zip(last, n_trains, strict=True)
    ]
    turned_rad = turned_by_carriers(path, trains)
    if name == "sign_check":
        return mrzero_sign_problems(mr0, shots_of_it, wanted, turned_rad)
    # Dummy scans precede the first shot that is read out.
    problems, first = [], last[0] + 1 - n_pulses(name, wanted, rows[0])
    for number, (row, shot) in enumerate(zip(rows, shots_of_it, strict=True)):
        turns = [{"net_rad": float(repetition.pulse.angle)} for repetition in sequence[first : last[number] + 1]]
        first = last[number] + 1
        if len(turns) != n_pulses(name, wanted, row):
            return [*problems, f"readout {number}: {len(turns)} pulses"]
        problems += edit_problems(name, wanted, f"of readout {number}", row, turns)
        problems += mrzero_echo_problems(mr0, shot, name, wanted, number, row)
        off_rad = float(np.angle(signal(mr0, shot)[0])) - turned_rad[number] - off_receiver_rad(name, wanted, row)
        if apart_rad(off_rad, 0.0) > 0.01:
            problems.append(f"readout {number}: echo {math.degrees(apart_rad(off_rad, 0.0))} degrees off the receiver")
        if name == "isis_press":
            angle_rad = float(before[number].pulse.angle)
            if (angle_rad > 1.0) != (row["AVG"] % 2 == 0) or 1e-3 < angle_rad < 1.0:
                problems.append(f"readout {number}: inversion by {angle_rad} rad")
    return problems


def mrzero_echo_problems(mr0, shot, name, wanted, number, row):
    """Size and time of an echo; editing pulses are left out of the shot, adiabatic ones become half turns."""
    problems = []
    train, wanted = condition(name, wanted, row)
    pulses = [repetition.pulse for repetition in shot]
    uses = [use for use in train.uses if use != INVERT]
    if EDIT in uses:
        played = abs(signal(mr0, shot)[0])
        # The designed pulses' own angles, else half turns.
        angles_rad = [edit["net_rad"] for edit in wanted.get("edits", [{"net_rad": math.pi}] * uses.count(EDIT))]
        kept = math.prod(math.cos(angle_rad / 2) ** 2 for angle_rad in angles_rad)
        least, most = (kept - 1e-3, kept + 1e-3) if len(angles_rad) == 2 else (0.1, 1.0)
        if not least <= played <= most:
            problems.append(f"readout {number}: echo of {played} with editing pulses as turns by {angles_rad} rad")
    for use, pulse in zip(uses, pulses, strict=True):
        if use == EDIT:
            pulse.angle = 0.0 * pulse.angle
        elif name == "slaser" and use == "refocusing":
            pulse.angle = math.pi + 0.0 * pulse.angle
    still, above, below = (signal(mr0, shot, b0_hz) for b0_hz in (0.0, 5.0, -5.0))
    if still.shape != (wanted["adc_samples"],):
        problems.append(f"readout {number}: {still.shape} samples")
    if not 0.98 < abs(still[0]) / abs(train.echo) < 1.001:
        problems.append(f"readout {number}: echo of {abs(still[0])}")
    # Its signal turns backwards where the field is higher.
    late_s = float(np.angle(below[0] / above[0])) / (2 * math.pi * 10.0)
    problems += late_problems(wanted, number, late_s)
    centre_s = np.cumsum([0.0, *(float(repetition.event_time.sum()) for repetition in shot)][:-1])
    orders = train.orders[-len(uses) :]
    gap_s = np.diff(centre_s)
    te_s = gap_s @ np.abs(orders[:-1]) + gap_s @ orders[:-1]
    if abs(te_s - wanted["te_s"]) > 2e-8:  # single precision
        problems.append(f"readout {number}: TE {te_s} s from RF centres")
    return problems


def mrzero_sign_problems(mr0, readouts, wanted, turned_rad):
    """Of the sign check: phases of RF, waveform and receiver, and the sense of the read gradients.

    Not checked: carriers that a waveform takes back, lines and slabs (instantaneous pulses do not select), and the
    frequency of the receiver, which is not played.
    """
    phases_rad = {0: 0.0, WAVEFORM_PHASE: math.pi / 2, RF_PHASE: math.pi / 2, ADC_PHASE: -math.pi / 2}
    middle = (wanted["adc_samples"] - 1) / 2
    offset_hz, distance_m, problems = 1000.0, 0.05, []

    def frequency_hz(samples):
        steps = samples[1:] * np.conj(samples[:-1])
        return float(np.angle(steps.sum())) / (2 * math.pi * wanted["adc_dwell_s"])

    higher_hz = frequency_hz(signal(mr0, readouts[0], offset_hz)) / offset_hz
    for number, readout in enumerate(readouts):
        kind = number % SIGN_KINDS
        samples = signal(mr0, readout)
        if (
            kind in phases_rad
            and apart_rad(np.angle(samples[0]) - turned_rad[number], phases_rad[kind] - math.pi / 2) > 0.01
        ):
            problems.append(f"readout {number}: {math.degrees(np.angle(samples[0]))} degrees")
        for axis, kinds in enumerate(zip(PROJECTIONS, *zip(*SLABS, strict=True), strict=True)):
            if kind not in kinds:
                continue
            seen = np.flatnonzero(abs(samples) > 0.5)
            if not seen.size or abs(np.ptp(seen) / 2 + seen[0] - middle) > 1:
                problems.append(f"readout {number}: gradient echo in samples {seen} instead of about {middle}")
            for place in range(3):
                position_m = [distance_m * (place == other) for other in range(3)]
                found_hz = higher_hz * frequency_hz(signal(mr0, readout, 0.0, position_m))
                read_hz = distance_m / (wanted["adc_dwell_s"] * FIELD_OF_VIEW_M) if place == axis else 0.0
                if abs(found_hz - read_hz) > 1.0:
                    problems.append(f"readout {number}: {found_hz} Hz at {position_m} m")
    return problems


def signal(mr0, shot, b0_hz=0.0, position_m=(0.0, 0.0, 0.0)):
    """The samples of a shot on spins at one offset and place."""
    data = mr0.CustomVoxelPhantom(pos=[list(position_m)], B0=b0_hz, **ISOCHROMAT).build()
    graph = mr0.compute_graph(shot, data, 10000, 1e-6)
    return mr0.execute_graph(graph, shot, data, print_progress=False).numpy().squeeze()


def turned_by_carriers(path, trains):
    """By how much MRzeroCore turns the echo of every readout after a pulse, rad, because its pulses are instantaneous.

    It takes the phase of a pulse at its start for the one at its centre: 2 pi f times half a pulse too little. Its
    receiver reads a spin along -y, where a +x pulse puts it, as phase 0: a quarter of a turn.
    """
    text = path.read_text()
    raster_s = float(re.search(r"(?m)^RadiofrequencyRasterTime (\S+)", text).group(1))
    samples = dict(re.findall(r"(?m)^shape_id (\d+)\nnum_samples (\d+)", text))
    frequency = 9 if re.search(r"(?m)^minor 5", text) else 6
    late_rad = {
        row[0]: math.pi * float(row[frequency]) * int(samples[row[2]]) * raster_s for row in rows_of(text, "RF")
    }
    turned, pulses = [], []
    for row in rows_of(text, "BLOCKS"):
        pulses += [row[2]] if row[2] != "0" else []
        if row[6] != "0" and pulses:
            train = trains[len(turned)]
            ours = [late_rad[number] for number in pulses[-len(train.uses) :]]
            turned.append(math.pi / 2 + float(train.changes @ ours))
    return turned


def rows_of(text, section):
    """Rows of a section."""
    body = text.split(f"[{section}]\n")[1].split("\n\n")[0]
    return [line.split() for line in body.splitlines() if line.strip() and not line.startswith("#")]
