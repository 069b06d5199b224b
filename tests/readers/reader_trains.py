"""What the readers' tables of pulses and readouts must say of every built-in sequence: order, echo, phases, labels.

Pathways as in Bodenhausen, Kogler, Ernst, J Magn Reson 58:370 (1984): of a pathway with orders p, the echo comes where
the sum of p times the time at it vanishes, and turning pulse j by phi turns it by -(change of p at j) phi.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

EXCITE, REFOCUS, EDIT, INVERT = "excitation", "refocusing", "preparation", "inversion"


@dataclass(frozen=True, kw_only=True)
class Train:
    """The pulses of a shot after its preparation, and the echo that they make."""

    uses: tuple[str, ...]
    """What they are for, in the words of Pulseq 1.5."""
    orders: tuple[int, ...]
    """Coherence order of the wanted pathway after each; editing pulses leave it as it is."""
    echo: complex
    """The echo from unit magnetisation where every pulse has phase 0; -1j: a +x pulse takes +z to -y."""

    @property
    def changes(self):
        """Change of order at each pulse."""
        return np.diff([0, *self.orders])

    def echo_times_s(self, centre_s):
        """(TE, time of the echo) of pulses with these centres; TE leaves out what is spent as order 0."""
        gap_s = np.diff(centre_s)
        last_s = gap_s @ self.orders[:-1]
        return gap_s @ np.abs(self.orders[:-1]) + last_s, centre_s[-1] + last_s

    def echo_phase_rad(self, phase_rad):
        """Phase of the echo of pulses with these phases at their centres."""
        return np.angle(self.echo) - self.changes @ np.asarray(phase_rad)


TRAINS = {
    "press": Train(uses=(EXCITE, REFOCUS, REFOCUS), orders=(-1, 1, -1), echo=-1j),
    "press_edited": Train(uses=(EXCITE, REFOCUS, EDIT, REFOCUS), orders=(-1, 1, 1, -1), echo=-1j),
    "mega_press": Train(uses=(EXCITE, REFOCUS, EDIT, REFOCUS, EDIT), orders=(-1, 1, 1, -1, -1), echo=-1j),
    # A stimulated echo: half of what was excited is stored along z and brought back, the other half dephased.
    "steam": Train(uses=(EXCITE, EXCITE, EXCITE), orders=(1, 0, -1), echo=0.5j),
    "slaser": Train(uses=(EXCITE, REFOCUS, REFOCUS, REFOCUS, REFOCUS), orders=(-1, 1, -1, 1, -1), echo=-1j),
    "isis_press": Train(uses=(INVERT, EXCITE, REFOCUS, REFOCUS), orders=(0, -1, 1, -1), echo=-1j),
    # No echo: the signal of the pulse's centre.
    "pulse_acquire": Train(uses=(EXCITE,), orders=(-1,), echo=-1j),
    "sign_check": Train(uses=(EXCITE,), orders=(-1,), echo=-1j),
}
SEQUENCES = (*TRAINS, "press_edited_plain", "press_edited_edited")
"""Names of the files: of the last two, the shots take turns as conditions, each with a train of its own."""
SIGN_KINDS = 18
"""Kinds of shots of the sign check, in the order of its label SET."""
WAVEFORM_PHASE, RF_PHASE, ADC_PHASE, ADC_FREQUENCY = 3, 4, 5, 6
SIGN_CARRIERS_HZ = {1: 300.0, 2: 300.0}
"""Carriers of the kinds whose waveform turns against its carrier and along with it; 0 where the pulse is on water."""
ADC_OFFSET_HZ = 500.0
FIELD_OF_VIEW_M = 0.3
LINE, MIRROR_LINE = 7, 8
PROJECTIONS = (9, 10, 11)
SLABS = ((12, 13), (14, 15), (16, 17))


@dataclass(frozen=True, kw_only=True)
class Readout:
    """A readout with the pulses of its shot, as a reader has them."""

    first_sample_s: float
    receiver_rad: float
    receiver_hz: float
    centre_s: list
    """Centres of the pulses of the train."""
    phase_rad: list
    """Their phases there, frequency included."""
    carrier_hz: list


def condition(name, wanted, row):
    """(train, what was asked for) of a shot in its condition: designs state it for every value of SET."""
    if "sets" not in wanted:
        return TRAINS[name], wanted
    of_set = wanted["sets"][row["SET"]]
    return TRAINS[of_set["train"]], wanted | of_set


def labels(name, wanted):
    """Labels of every readout in order of play, by the table in docs/sequences.md."""
    if name == "sign_check":
        return [
            {"AVG": number, "SET": kind, "REF": 0} for number in range(wanted["averages"]) for kind in range(SIGN_KINDS)
        ]
    found = [
        dict.fromkeys(("SET", "PHS", "REP", "REF"), 0) | {"AVG": k, "NOISE": 1} for k in range(wanted["noise_scans"])
    ]
    flags = {"NOISE": 0} if found else {}
    references = iter(range(wanted["water_reference_averages"]))
    conditions, steps, every = wanted["conditions"], wanted["cycle_steps"], wanted["water_reference_interval"]

    def reference(number):
        phase = {"PHS": number % 2, "REP": number // steps}
        return {"AVG": number, "SET": conditions - 1, "REF": 1} | phase | flags

    for k in range(wanted["averages"]):
        number = k // conditions
        phase = {"PHS": number % steps, "REP": number // steps}
        found.append({"AVG": number, "SET": k % conditions, "REF": 0} | phase | flags)
        if every and (k + 1) % every == 0:
            found += [reference(number) for number in itertools.islice(references, 1)]
    return found + [reference(number) for number in references]


def shots(name, wanted):
    """For every shot in order of play: its labels, of dummy scans without AVG; they go through the conditions, too."""
    rows = labels(name, wanted)
    noise = wanted["noise_scans"]
    dummies = [{"SET": k % wanted["conditions"], "REF": 0} for k in range(wanted["dummy_scans"])]
    return [*rows[:noise], *dummies, *rows[noise:]]


def n_pulses(name, wanted, row):
    """Pulses of a shot, its preparation too; `row` holds its labels."""
    if row.get("NOISE"):
        return 0
    train, _ = condition(name, wanted, row)
    return len(train.uses) + wanted.get("slabs", 0) + (row["REF"] == 0) * wanted.get("water_pulses", 0)


def off_receiver_rad(name, wanted, row):
    """By how much the phase of the echo of water is to exceed the receiver's.

    A designed pulse states the receiver's phase. Shots that ISIS inverts are subtracted, and the echo is that from +z;
    they take turns with those that it does not.
    """
    inverted = name == "isis_press" and row["AVG"] % 2 == 0
    return math.pi * inverted - condition(name, wanted, row)[1]["receiver_phase_rad"]


def apart_rad(one_rad, other_rad):
    """Distance of two phases, in [0, pi]."""
    return abs(np.angle(np.exp(1j * (one_rad - other_rad))))


# --- Judged alike, whoever read the file: lists of problems ----------------------------------------------------------


def echo_problems(name, wanted, number, row, readout):
    """TE, first sample, phase and receiver of one readout; carriers of MEGA-PRESS and of a pulse alone."""
    problems = []
    train, wanted = condition(name, wanted, row)
    te_s, echo_s = train.echo_times_s(readout.centre_s)
    if abs(te_s - wanted["te_s"]) > 1e-8:
        problems.append(f"readout {number}: TE {te_s} s from RF centres")
    problems += late_problems(wanted, number, readout.first_sample_s - echo_s)
    if abs(readout.receiver_hz) > 1e-3:
        problems.append(f"readout {number}: receiver at {readout.receiver_hz} Hz")
    off_rad = apart_rad(
        train.echo_phase_rad(readout.phase_rad) - off_receiver_rad(name, wanted, row), readout.receiver_rad
    )
    if off_rad > 1e-3:
        problems.append(f"readout {number}: phases leave the echo {math.degrees(off_rad)} degrees off the receiver")
    if name == "mega_press":
        edits_hz = [hz for use, hz in zip(train.uses, readout.carrier_hz, strict=True) if use == EDIT]
        if max(abs(np.array(edits_hz) - wanted["editing_hz"][row["SET"]])) > 1e-3:
            problems.append(f"readout {number}: SET {row['SET']}, but editing pulses at {edits_hz} Hz")
    if name == "pulse_acquire" and abs(readout.carrier_hz[0] - wanted["carrier_hz"]) > 1e-3:
        problems.append(f"readout {number}: carrier at {readout.carrier_hz[0]} Hz")
    return problems


def late_problems(wanted, number, late_s):
    """First sample of a readout: within a dwell of the echo, or after a pulse alone as soon as dead times allow."""
    least_s, most_s = wanted.get("after_pulse_s", (-wanted["adc_dwell_s"], wanted["adc_dwell_s"]))
    if least_s - 1e-8 <= late_s <= most_s + 1e-8:
        return []
    return [f"readout {number}: first sample {late_s} s after the echo"]


def edit_problems(name, wanted, shot, row, pulses):
    """Editing pulses of a shot against those of its condition in the design; `pulses`: peak, net flip angle, or what of
    it the reader has, of all its pulses in order of play."""
    if "sets" not in wanted:
        return []
    train, wanted_there = condition(name, wanted, row)
    if len(pulses) != n_pulses(name, wanted, row):
        return [f"shot {shot}: {len(pulses)} pulses"]
    places = [k - len(train.uses) for k, use in enumerate(train.uses) if use == EDIT]
    edits = [pulses[place] for place in places]
    for edit, stated in zip(edits, wanted_there["edits"], strict=True):
        # Six digits in a file; single precision in some readers.
        if any(abs(edit[key] / stated[key] - 1) > 1e-4 for key in edit):
            return [f"shot {shot}: SET {row['SET']}, but editing pulses {edits}"]
    return []


def pulse_numbers(b1_hz, dwell_s):
    """Peak and net flip angle of a waveform on a raster."""
    return {"peak_hz": np.abs(b1_hz).max(), "net_rad": 2 * math.pi * dwell_s * abs(np.sum(b1_hz))}


def sign_check_problems(readouts, wanted, waveform_rad=()):
    """Of the sign check: all receivers open at one time in TR, equally long after the RF but for slabs, whose pulse is
    shorter; phases and frequencies are those of the kind of shot. `waveform_rad`: phases of waveforms that are seen."""
    problems = []
    for what, times_s in {
        "in TR": [readout.first_sample_s % wanted["tr_s"] for readout in readouts],
        "after the RF": [
            readout.first_sample_s - readout.centre_s[0]
            for number, readout in enumerate(readouts)
            if number % SIGN_KINDS < SLABS[0][0]
        ],
    }.items():
        if np.ptp(times_s) > 1e-8:
            problems.append(f"receivers open {min(times_s)} to {max(times_s)} s {what}")
    phases_rad = {RF_PHASE: math.pi / 2, ADC_PHASE: -math.pi / 2, **dict(waveform_rad)}
    for number, readout in enumerate(readouts):
        kind, carrier_hz = number % SIGN_KINDS, readout.carrier_hz[0]
        if apart_rad(readout.phase_rad[0] - readout.receiver_rad, phases_rad.get(kind, 0.0)) > 0.02:
            problems.append(f"readout {number}: phases {readout.phase_rad[0]} and {readout.receiver_rad} rad")
        if abs(readout.receiver_hz - (ADC_OFFSET_HZ if kind == ADC_FREQUENCY else 0.0)) > 1e-3:
            problems.append(f"readout {number}: receiver at {readout.receiver_hz} Hz")
        if (kind < LINE or kind in PROJECTIONS) and abs(carrier_hz - SIGN_CARRIERS_HZ.get(kind, 0.0)) > 1e-3:
            problems.append(f"readout {number}: carrier at {carrier_hz} Hz")
    for first in range(0, len(readouts), SIGN_KINDS):
        for plus, minus in ((MIRROR_LINE, LINE), *SLABS):
            above_hz, below_hz = (readouts[first + kind].carrier_hz[0] for kind in (plus, minus))
            if above_hz <= 0 or abs(above_hz + below_hz) > 1e-3:
                problems.append(f"kinds {plus} and {minus}: carriers at {above_hz} and {below_hz} Hz")
    return problems
