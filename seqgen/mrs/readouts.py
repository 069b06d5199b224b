"""What a `.seq` says about its readouts: echo time, flip angle, TR, where the echo falls among the samples."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.seqfile.cycle import is_noise, is_reference
from seqgen.seqfile.reader import SeqFile, Shot
from seqgen.simulate.pathways import principal_echo
from seqgen.timeline import Timeline

_SAME_S = 1e-9
_CYCLE = 16
"""Shots that are looked at for a phase cycle."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Readouts:
    """Readouts of one kind that are taken alike."""

    index: tuple[int, ...]
    """Positions in the order of the file, from 0."""
    n_samples: int
    """Samples of each readout."""
    dwell_s: float
    """Dwell time, s."""
    receiver_hz: float
    """Offset of the receiver from the spectrometer frequency, Hz."""
    n_cut: int
    """Samples before the echo, to be left out; 0 for a plain FID."""
    echo_time_s: FloatArray | None
    """Echo time of each readout, excitation centre to echo, s; None for plain FIDs."""
    first_sample_s: FloatArray
    """Time of the first sample kept after the echo, or after the centre of the excitation of a plain FID, s."""
    flip_angle_deg: FloatArray
    """Flip angle of the excitation of each readout, degrees."""
    excitation_s: FloatArray
    """Centre of each excitation after the start of the sequence, s."""
    labels: dict[str, tuple[int, ...]]
    """Pulseq labels that differ between the readouts, and their values."""

    @property
    def repetition_time_s(self) -> float | None:
        """Time between the excitations of successive readouts of the file, s; None for one readout or if it varies."""
        # Readouts of another kind between two of these take a TR each.
        gaps = np.diff(self.excitation_s) / np.diff(self.index)
        if not gaps.size or np.ptp(gaps) > 1e-6:
            return None
        return round(float(gaps.mean()), 9)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Excitation:
    """Excitation of a shot: position among its pulses (1: the last), TE, time to the echo, whether there is an echo."""

    pulses_from_end: int
    te_s: float
    echo_s: float
    is_echo: bool


def split_shots(
    shots: Sequence[Shot], reference_set: int | None
) -> tuple[tuple[Shot, ...], tuple[Shot, ...], tuple[Shot, ...]]:
    """Return (metabolite shots, water-reference shots, noise shots).

    Label NOISE marks noise, REF a water reference (values other than 0). Files without REF may mark references by a
    value of the label SET, which the caller must name: foreign sequences count other things with it.
    """
    kinds: tuple[list[Shot], list[Shot], list[Shot]] = ([], [], [])
    for shot in shots:
        is_water = is_reference(shot) if reference_set is None else shot.labels.get("SET") == reference_set
        kinds[2 if is_noise(shot) else int(is_water)].append(shot)
    metabolite, water, noise = map(tuple, kinds)
    return metabolite, water, noise


def describe_readouts(seq: SeqFile, shots: Sequence[Shot]) -> Readouts:
    """Work out echo, flip angle and times of the readouts of some shots.

    The FID starts at the sample nearest to the echo. Sample i stands for the time (i + 1/2) dwell after the receiver
    opens.

    Raises:
        InputError: If the shots differ in samples, dwell, receiver frequency or in the sample of the echo, have no
            excitation, or the echo comes after the readout.
    """
    excitations = _excitations(shots)
    receiver = shots[0].readout
    cuts, first_sample_s, flips, times_s = [], [], [], []
    for shot in shots:
        own = shot.readout
        if (own.n_samples, own.dwell_s, own.frequency_hz) != (
            receiver.n_samples,
            receiver.dwell_s,
            receiver.frequency_hz,
        ):
            _differ(seq, shot, "samples, dwell time or receiver frequency")
        excitation = excitations[shot.identity]
        centre_s = shot.timeline.pulses()[-excitation.pulses_from_end][0]
        opens_s = shot.timeline.readouts()[0][0]
        zero_s = centre_s + (excitation.echo_s if excitation.is_echo else 0.0)
        position = (zero_s - opens_s) / own.dwell_s - 0.5
        cuts.append(max(0, round(position)) if excitation.is_echo else 0)
        first_sample_s.append(opens_s + (cuts[-1] + 0.5) * own.dwell_s - zero_s)
        flips.append(math.degrees(shot.flip_angle_rad[-excitation.pulses_from_end]))
        times_s.append(shot.start_s + centre_s)
    if min(cuts) != max(cuts):
        _differ(seq, shots[cuts.index(max(cuts))], "the sample at which the echo falls")
    if cuts[0] >= receiver.n_samples:
        raise InputError(
            f"{seq.name}: the echo comes after the last of the {receiver.n_samples} samples of a readout, so there is "
            "no FID to keep. Check the timing of the sequence."
        )
    is_echo = excitations[shots[0].identity].is_echo
    return Readouts(
        index=tuple(shot.index for shot in shots),
        n_samples=receiver.n_samples,
        dwell_s=receiver.dwell_s,
        receiver_hz=receiver.frequency_hz,
        n_cut=cuts[0],
        echo_time_s=np.array([excitations[shot.identity].te_s for shot in shots]) if is_echo else None,
        first_sample_s=np.array(first_sample_s),
        flip_angle_deg=np.array(flips),
        excitation_s=np.array(times_s),
        labels=_varying_labels(shots),
    )


def localised_axes(shots: Sequence[Shot]) -> tuple[bool, bool, bool]:
    """Return for x, y, z whether a pulse of the last shot selects along it: is played with a gradient there."""
    intervals = [interval for _, interval in shots[-1].timeline.pulses()]
    x, y, z = (any(bool(i.gradient_hz_per_m[:, axis].any()) for i in intervals) for axis in range(3))
    return x, y, z


def _differ(seq: SeqFile, shot: Shot, what: str) -> None:
    """Refuse shots that cannot share an array."""
    raise InputError(
        f"{seq.name}: readout {shot.index + 1} differs from the first of its kind in {what}, so they cannot be one "
        "data set. Mark different kinds of readout with labels, or acquire them with separate files."
    )


def _excitations(shots: Sequence[Shot]) -> dict[str, _Excitation]:
    """Return the excitation of every different shot by its identity.

    The pathways of a shot are worked out once for all shots that end alike: whose last pulses and readout keep the same
    distances. So dummy scans, which belong to the shot of the first readout, do not count, and a shot from which no
    signal is expected (an excitation of 180 degrees in a flip-angle series) is treated as its neighbours.
    """
    different = {shot.identity: shot.timeline for shot in shots}
    found: dict[str, _Excitation] = {}
    worked_out: list[tuple[FloatArray, _Excitation]] = []
    for identity, timeline in sorted(different.items(), key=lambda item: len(item[1].pulses())):
        if not timeline.pulses():
            raise InputError(
                f"{timeline.name} has no RF pulse before its readout. Label it NOISE = 1 if it takes noise."
            )
        before_s = _pulses_before_readout_s(timeline)
        alike = (known for times, known in worked_out if _ends_alike(times, before_s))
        known = next(alike, None)
        if known is None:
            cycle = _cycle(shots, before_s)
            echo = principal_echo(cycle)
            after = len(before_s) - next(k for k, order in enumerate(echo.pathway.orders) if order != 0)
            # The excitation's own time is measured on the shot whose pathways were worked out, from its last pulses.
            known = _Excitation(
                pulses_from_end=after,
                te_s=echo.te_s,
                echo_s=echo.time_s - cycle[0].pulses()[-after][0],
                is_echo=echo.is_echo,
            )
            worked_out.append((before_s, known))
        found[identity] = known
    return found


def _cycle(shots: Sequence[Shot], before_s: FloatArray) -> list[Timeline]:
    """Return the first shots whose pulses all keep the same distances to the readout: steps of one phase cycle."""
    alike = (
        shot.timeline
        for shot in shots
        if len(shot.timeline.pulses()) == before_s.size
        and _ends_alike(before_s, _pulses_before_readout_s(shot.timeline))
    )
    return list(itertools.islice(alike, _CYCLE))


def _pulses_before_readout_s(timeline: Timeline) -> FloatArray:
    """Return how long before the opening of the receiver each pulse has its centre, s."""
    return timeline.readouts()[0][0] - np.array([time for time, _ in timeline.pulses()])


def _ends_alike(known_s: FloatArray, before_s: FloatArray) -> bool:
    """Return whether a shot ends with the pulses of a known one that has as many or fewer."""
    return bool(np.allclose(before_s[-known_s.size :], known_s, rtol=0, atol=_SAME_S))


def _varying_labels(shots: Sequence[Shot]) -> dict[str, tuple[int, ...]]:
    """Return the labels whose values differ between shots; a label not yet set counts as 0."""
    names = sorted({name for shot in shots for name in shot.labels})
    values = {name: tuple(shot.labels.get(name, 0) for shot in shots) for name in names}
    return {name: value for name, value in values.items() if len(set(value)) > 1}
