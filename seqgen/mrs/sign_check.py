"""Which signs an interpreter gave to RF, receiver and gradients, read from the shots of `sequences/sign_check.py`.

Every shot answers one question (docs/sign_check.md); `seqgen.mrs.sign_verdict` says what the answers mean together.
Signs are those of docs/conventions.md: RF exp(+2 pi i f t) and a line exp(+2 pi i f t) belong to spins at offset +f; an
RF phase turns the signal by +phase, a receiver phase by -phase; +G r adds to a positive offset.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ComplexArray, frequency_axis_hz, spectrum
from seqgen.errors import InputError
from seqgen.mrs.sign_verdict import (
    ADC_FREQUENCY,
    ADC_PHASE,
    GRADIENTS,
    RF_FREQUENCY,
    RF_PHASE,
    SAMPLES,
    WAVEFORM,
    Answer,
    Sign,
    SignCheck,
    judge,
)
from seqgen.seqfile.reader import SeqFile, Shot, shots
from seqgen.sequence.sign_kinds import NAME, PROJECTIONS, SLABS, Kind

_WINDOW_HZ = 60.0
"""Half the width of the window around a line."""
_LINE_WINDOW_HZ = 80.0
"""The same around the second line, whose distance from water changes with temperature."""
_SHOWN = 25.0
"""A line is there if its power exceeds that of the noise by so many standard deviations of the latter."""
_CLEAR = 3.0
"""One answer must be so many times the size of its alternative."""
_LEAST = 0.4
"""Least answer, relative to the reference shot."""
_LEAST_LINE = 0.03
"""Least second line, relative to water: leakage of water and wings of a bad shim lie below."""
_LEAST_DISTANCE_HZ = 150.0
"""Least distance of the second line from water that the pulse separates."""
_LEAST_OFFSET_HZ = 30.0
"""Least known offset of water that a shim error does not imitate."""
PLACE_TOLERANCE_M = 0.01
"""How far a centre of gravity may lie from where it is expected: coils weight the sample unevenly."""


def read_sign_check(
    transients: ComplexArray,
    seq: SeqFile,
    *,
    displacement_m: Sequence[float] | None = None,
    water_offset_hz: float | None = None,
) -> SignCheck:
    """Read a sign check.

    Args:
        transients: Samples as stored, shape (n_readouts, n_coils, n_samples), in the order of the file.
        seq: The sign-check sequence that ran.
        displacement_m: Centre of the sample from the isocentre along the sequence's x, y, z, m. None: the directions of
            gradients stay open.
        water_offset_hz: Offset of water from the spectrometer frequency, Hz, where it was set on purpose: negative if
            the frequency was set above water. None: it stands on water to a few tens of Hz.

    Returns:
        Answers and verdicts; "undecided" where the data do not tell.

    Raises:
        InputError: If the sequence is no sign check, or numbers of readouts or samples differ.
    """
    scan = _Scan(transients, seq)
    water = scan.water()
    places = [scan.place_m(kind, axis, water.hz) for axis, kind in enumerate(PROJECTIONS)]
    centroids_m = tuple(None if place is None else place.centroid_m for place in places)
    axes = _axes(centroids_m, displacement_m)
    answers = (
        *(_rf_and_receiver(scan, water) if water.shown else ()),
        *(_second_line(scan, water) if water.shown else ()),
        *(_known_offset(water, water_offset_hz) if water.shown and water_offset_hz is not None else ()),
        *_slabs(scan, water.hz, places),
        *axes.answers,
    )
    return judge(answers, axes.swapped, water_hz=water.hz, water_snr=water.snr, centroids_m=centroids_m)


# --- Spectra ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Water:
    """Water in the reference shot."""

    hz: float
    power: float
    snr: float
    shown: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where the sample lies along the axis that was read."""

    centroid_m: float
    highest: float
    """Tallest value of the projection, over the noise."""


class _Scan:
    """Averaged readouts by kind, noise of every coil scaled to 1, and their spectra."""

    def __init__(self, transients: ComplexArray, seq: SeqFile) -> None:
        self.shot, rows = _by_kind(seq)
        _require_shape(transients, seq, self.shot[Kind.REFERENCE], sum(map(len, rows.values())))
        receiver = self.shot[Kind.REFERENCE].readout
        self.hz = frequency_axis_hz(receiver.n_samples, receiver.dwell_s)
        mean = {kind: np.asarray(transients[index], np.complex128).mean(0).T for kind, index in rows.items()}
        part = (np.arange(receiver.n_samples) + 0.5) / receiver.n_samples
        # Both rise from zero, or a line would have wings; the first is early, for FIDs, the second central, for echoes.
        early, central = (np.sin(math.pi * u)[:, None] ** 2 for u in (np.sqrt(part), part))
        fids = {kind: spectrum(values * early) for kind, values in mean.items() if kind < Kind.PROJECTION_X}
        quiet = (abs(self.hz) > 0.4 / receiver.dwell_s / 2) & (abs(self.hz) < 0.8 / receiver.dwell_s / 2)
        power = np.stack([abs(values[quiet]) ** 2 for values in fids.values()])
        noise = np.sqrt(np.median(power, axis=(0, 1)) / math.log(2))
        noise = np.maximum(noise, 1e-9 * max(float(abs(values).max()) for values in fids.values()) + 1e-300)
        self.fid = {kind: values / noise for kind, values in fids.items()}
        ratio = math.sqrt(float((central**2).sum() / (early**2).sum()))
        self.echo = {
            kind: spectrum(values * central) / (noise * ratio)
            for kind, values in mean.items()
            if kind >= Kind.PROJECTION_X
        }
        self.n_coils = transients.shape[1]

    def power(self, kind: Kind, centre_hz: float, half_hz: float = _WINDOW_HZ) -> tuple[float, bool]:
        """Return (power around a frequency less that of the noise, whether it is beyond noise)."""
        window = abs(self.hz - centre_hz) <= half_hz
        expected = float(window.sum()) * self.n_coils
        power = float((abs(self.fid[kind][window]) ** 2).sum()) - expected
        return max(power, 0.0), power > _SHOWN * math.sqrt(max(expected, 1.0))

    def water(self) -> _Water:
        """Find water in the reference shot."""
        total = (abs(self.fid[Kind.REFERENCE]) ** 2).sum(1)
        near = abs(self.hz - self.hz[int(total.argmax())]) <= _WINDOW_HZ
        weight = np.maximum(total[near] - self.n_coils, 1e-300)
        hz = float((weight * self.hz[near]).sum() / weight.sum())
        power, shown = self.power(Kind.REFERENCE, hz)
        return _Water(hz=hz, power=power, snr=math.sqrt(power / (near.sum() * self.n_coils)), shown=shown)

    def response(self, kind: Kind, water: _Water) -> complex:
        """Return the signal of a kind at water, relative to the reference shot."""
        window = abs(self.hz - water.hz) <= _WINDOW_HZ
        reference = self.fid[Kind.REFERENCE][window]
        return complex((reference.conj() * self.fid[kind][window]).sum() / water.power)

    def amplitude(self, kind: Kind, centre_hz: float, water: _Water, half_hz: float = _WINDOW_HZ) -> float:
        """Return the signal around a frequency relative to water in the reference shot; 0 within noise."""
        power, shown = self.power(kind, centre_hz, half_hz)
        return math.sqrt(power / water.power) if shown else 0.0

    def place_m(self, kind: Kind, axis: int, water_hz: float) -> _Place | None:
        """Return the centre of gravity along the axis that a kind reads, None without signal."""
        total = (abs(self.echo[kind]) ** 2).sum(1)
        if not total.max() > 20 * self.n_coils:
            return None
        weight = np.where(total > max(0.04 * total.max(), 10 * self.n_coils), np.sqrt(total), 0.0)
        gradient_hz_per_m = _read_gradient_hz_per_m(self.shot[kind], axis)
        centre_hz = float((weight * self.hz).sum() / weight.sum())
        return _Place(centroid_m=(centre_hz - water_hz) / gradient_hz_per_m, highest=math.sqrt(float(total.max())))


def _by_kind(seq: SeqFile) -> tuple[dict[Kind, Shot], dict[Kind, list[int]]]:
    """Return (a shot of each kind, positions of all readouts of each kind)."""
    first: dict[Kind, Shot] = {}
    rows: dict[Kind, list[int]] = {}
    if seq.definitions.get("Name") == NAME:
        for shot in shots(seq):
            if shot.labels.get("SET") in {int(kind) for kind in Kind}:
                kind = Kind(shot.labels["SET"])
                first.setdefault(kind, shot)
                rows.setdefault(kind, []).append(shot.index)
    if set(rows) != set(Kind):
        raise InputError(
            f"{seq.name} is no sign check: its name is {seq.definitions.get('Name')!r} and it has {len(rows)} of the "
            f"{len(Kind)} kinds of shots. Give the .seq that was built as {NAME!r}."
        )
    return first, rows


def _require_shape(transients: ComplexArray, seq: SeqFile, shot: Shot, n_readouts: int) -> None:
    """Refuse samples that are not those of the sequence."""
    wanted = (n_readouts, shot.readout.n_samples)
    if transients.ndim != 3 or not np.iscomplexobj(transients) or transients.shape[::2] != wanted:
        raise InputError(
            f"{seq.name} takes {wanted[0]} readouts of {wanted[1]} samples, but the data are {transients.dtype} of "
            f"shape {transients.shape} (readouts, coils, samples). Give the raw data of the whole scan."
        )
    if not bool(np.isfinite(transients).all()):
        raise InputError(f"The samples of {seq.name} hold NaN or infinity. Give the raw data as stored.")


def _read_gradient_hz_per_m(shot: Shot, axis: int) -> float:
    """Return the gradient while the receiver is open."""
    interval = next(interval for interval in shot.timeline.intervals if interval.receiver is not None)
    return float(interval.gradient_hz_per_m[0, axis])


def _carrier_hz(shot: Shot) -> float:
    """Return the carrier of the excitation."""
    return shot.timeline.pulses()[-1][1].carrier_hz


# --- Answers ---------------------------------------------------------------------------------------------------------


def _rf_and_receiver(scan: _Scan, water: _Water) -> list[Answer]:
    """Return the answers of the shots on water without gradients."""
    counter, along = (abs(scan.response(kind, water)) for kind in (Kind.COUNTER, Kind.ALONG))
    found = [
        Answer(
            name="waveform that takes its carrier back",
            factors=(WAVEFORM, RF_FREQUENCY),
            sign=_clear(counter, along, _LEAST),
            numbers=f"signal {counter:.2f} turning against the carrier, {along:.2f} with it (faithful: 1, 0)",
        )
    ]
    for kind, convention, expected_deg in (
        (Kind.WAVEFORM_PHASE, WAVEFORM, 90),
        (Kind.RF_PHASE, RF_PHASE, 90),
        (Kind.ADC_PHASE, ADC_PHASE, -90),
    ):
        response = scan.response(kind, water)
        degrees = math.degrees(math.atan2(response.imag, response.real))
        quarter = abs(response) > _LEAST and abs(abs(degrees) - 90) < 45
        sign: Sign = 0 if not quarter else 1 if degrees * expected_deg > 0 else -1
        found.append(
            Answer(
                name=f"{convention} of 90 degrees",
                factors=(SAMPLES, convention),
                sign=sign,
                numbers=f"signal {abs(response):.2f}, turned by {degrees:+.0f} degrees (faithful: 1, {expected_deg:+})",
            )
        )
    offset_hz = scan.shot[Kind.ADC_FREQUENCY].readout.frequency_hz
    below, above = (scan.amplitude(Kind.ADC_FREQUENCY, water.hz + s * offset_hz, water) for s in (-1, 1))
    found.append(
        Answer(
            name=f"ADC frequency of {offset_hz:+.0f} Hz",
            factors=(SAMPLES, ADC_FREQUENCY),
            sign=_clear(below, above, _LEAST),
            numbers=f"signal {below:.2f} at {-offset_hz:+.0f} Hz from water, {above:.2f} at {offset_hz:+.0f} Hz "
            "(faithful: 1, 0)",
        )
    )
    return found


def _clear(faithful: float, opposite: float, least: float) -> Sign:
    """Return which of two answers is there; 0 if neither, or both."""
    strong, weak = max(faithful, opposite), min(faithful, opposite)
    if strong < least or strong < _CLEAR * weak:
        return 0
    return 1 if faithful > opposite else -1


def _second_line(scan: _Scan, water: _Water) -> list[Answer]:
    """Return which carrier excites the second line, and where it is read: absolute senses."""
    offset_hz = _carrier_hz(scan.shot[Kind.LINE])
    if abs(offset_hz) < _LEAST_DISTANCE_HZ:
        return [
            Answer(
                name="second line",
                factors=(factor,),
                sign=0,
                numbers=f"{offset_hz:+.0f} Hz from water: too near, the pulse needs {_LEAST_DISTANCE_HZ:g} Hz",
            )
            for factor in (RF_FREQUENCY, SAMPLES)
        ]
    seen = {
        (carrier, read): scan.amplitude(kind, water.hz + read * offset_hz, water, _LINE_WINDOW_HZ)
        for carrier, kind in ((1, Kind.LINE), (-1, Kind.MIRROR_LINE))
        for read in (1, -1)
    }
    (carrier, read), strongest = max(seen.items(), key=lambda item: item[1])
    second = sorted(seen.values())[-2]
    there = strongest > _LEAST_LINE and strongest > _CLEAR * second
    numbers = (
        f"{strongest:.3f} of water, next {second:.3f}; carrier {carrier * offset_hz:+.0f} Hz, read at "
        f"{read * offset_hz:+.0f} Hz from water (faithful: both {offset_hz:+.0f} Hz)"
    )
    if not there:
        numbers = f"no line above {_LEAST_LINE:g} of water ({strongest:.3f}, next {second:.3f}), or not a single one"
    return [
        Answer(
            name="carrier on the second line", factors=(RF_FREQUENCY,), sign=_as_sign(there, carrier), numbers=numbers
        ),
        Answer(name="place of the second line", factors=(SAMPLES,), sign=_as_sign(there, read), numbers=numbers),
    ]


def _known_offset(water: _Water, offset_hz: float) -> list[Answer]:
    """Return on which side water is read, whose offset is known: an absolute sense."""
    nearer = [sign for sign in (1, -1) if abs(water.hz - sign * offset_hz) < 0.5 * abs(offset_hz)]
    decided = abs(offset_hz) >= _LEAST_OFFSET_HZ and bool(nearer)
    return [
        Answer(
            name="water at a known offset",
            factors=(SAMPLES,),
            sign=_as_sign(decided, nearer[0] if nearer else 1),
            numbers=f"water read at {water.hz:+.0f} Hz (faithful: {offset_hz:+.0f} Hz)",
        )
    ]


def _as_sign(decided: bool, sign: int) -> Sign:
    """Return the sign, 0 if it is not decided."""
    return 0 if not decided else 1 if sign > 0 else -1


def _slabs(scan: _Scan, water_hz: float, whole: Sequence[_Place | None]) -> list[Answer]:
    """Return on which side slabs are read that were asked for at +d and -d along each axis."""
    found = []
    for axis, kinds in enumerate(SLABS):
        signs, numbers = set(), []
        for kind in kinds:
            pulse = scan.shot[kind].timeline.pulses()[-1][1]
            asked_m = pulse.carrier_hz / float(pulse.gradient_hz_per_m[pulse.n_samples // 2, axis])
            slab, sample = scan.place_m(kind, axis, water_hz), whole[axis]
            if slab is None or sample is None or slab.highest < 0.2 * sample.highest:
                numbers.append(f"nothing for {asked_m * 1e3:+.0f} mm")
                continue
            numbers.append(f"{slab.centroid_m * 1e3:+.0f} mm for {asked_m * 1e3:+.0f} mm")
            signs |= {s for s in (1, -1) if 0.5 < s * slab.centroid_m / asked_m < 1.5}
        found.append(
            Answer(
                name=f"slabs along {'xyz'[axis]}",
                factors=(SAMPLES, RF_FREQUENCY),
                sign=_as_sign(len(signs) == 1, sum(signs)),
                numbers="read at " + ", ".join(numbers),
            )
        )
    return found


# --- Directions of gradients -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Axes:
    """Answers of the projections, and what gradients do that no sign describes."""

    answers: tuple[Answer, ...]
    swapped: Mapping[str, str]


def _axes(measured_m: Sequence[float | None], displacement_m: Sequence[float] | None) -> _Axes:
    """Compare the centre of gravity along x, y, z with where the sample lies.

    All 48 ways to swap and reverse three axes are tried. Those that bring the centre to within PLACE_TOLERANCE_M stay;
    an axis is settled where they agree on it.
    """
    shown = ["no signal" if m is None else f"{m * 1e3:+.0f} mm" for m in measured_m]
    if displacement_m is None or any(m is None for m in measured_m):
        why = "the sample's place was not given" if displacement_m is None else "a projection has no signal"
        return _Axes(
            answers=tuple(
                Answer(name=f"projection along {n}", factors=(SAMPLES, g), sign=0, numbers=f"{s}; {why}")
                for n, g, s in zip("xyz", GRADIENTS, shown, strict=True)
            ),
            swapped={},
        )
    expected_m = np.asarray(displacement_m, np.float64)
    if expected_m.shape != (3,) or not np.isfinite(expected_m).all():
        raise InputError(f"displacement_m must be three finite numbers in m, but is {displacement_m}. Give x, y, z.")
    centre_m = np.array(measured_m, dtype=np.float64)
    fitting = [turn for turn in _TURNS if abs(turn @ expected_m - centre_m).max() < PLACE_TOLERANCE_M]
    answers, swapped = [], {}
    for axis, (name, gradient) in enumerate(zip("xyz", GRADIENTS, strict=True)):
        where = {tuple(turn[axis]) for turn in fitting}
        numbers = f"{shown[axis]} (faithful: {expected_m[axis] * 1e3:+.0f} mm)"
        sign: Sign = 0
        if len(where) == 1:
            along = np.array(next(iter(where)))
            other = int(abs(along).argmax())
            sign = _as_sign(other == axis, int(along.sum()))
            if other != axis:
                swapped[gradient] = f"plays along {'+' if along.sum() > 0 else '-'}{'xyz'[other]} in the samples' sense"
        elif fitting:
            numbers += "; too near to another axis or to the isocentre to be told"
        else:
            numbers += "; no way to swap and reverse axes explains the three projections"
        answers.append(Answer(name=f"projection along {name}", factors=(SAMPLES, gradient), sign=sign, numbers=numbers))
    return _Axes(answers=tuple(answers), swapped=swapped)


_TURNS: Final[tuple[NDArray[np.float64], ...]] = tuple(
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
)
"""All ways to swap and reverse three axes."""
