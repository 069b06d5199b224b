"""`seqgen simulate` of a simulation file: FIDs of a localised PRESS, to lay beside those of another tool."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.errors import InputError, VerificationError
from seqgen.pipeline.study import Reporter
from seqgen.provenance import Provenance, replacing, source
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.simulation_file import IdealRefocusing, PressSimulation, load_press_simulation, spin_systems
from seqgen.spin.hamiltonian import GroupModel, molecule_models
from seqgen.spin.system import SpinSystem
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

CRUSHER_MOMENT_PER_M = 1000.0
"""Moment of every ideal crusher, cycles per metre: far more than `refocused_pathways` lets pass."""
OUTPUT_PHASE = {"none": 1.0, "fid_a": 1j}
"""Factor on the FIDs; FID-A's are 1j times those in memory, those of FSL-MRS's simulator equal to them."""
_SAMPLES_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fids:
    """FIDs of a simulation."""

    names: tuple[str, ...]
    """Metabolites."""
    fid: NDArray[np.complex128]
    """Shape (n_metabolites, n_samples), 1 per proton, t = 0 at the echo; higher ppm, higher frequency."""
    dwell_s: float
    """Time between samples, s."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency f0, Hz."""
    reference_ppm: float
    """Shift at zero frequency, ppm."""
    provenance: Provenance
    """What they were made from."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.fid).all():
            bad = [name for name, row in zip(self.names, self.fid, strict=True) if not np.isfinite(row).all()]
            raise InputError(
                f"The FIDs of {', '.join(bad)} are not finite: a number of the simulation file is beyond what can be "
                "computed. Check its units."
            )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a file of FIDs holds, by key."""
        return {
            "fid": self.fid,
            "names": np.array(self.names),
            "dwell_s": np.array(self.dwell_s),
            "f0_hz": np.array(self.spectrometer_frequency_hz),
            "reference_ppm": np.array(self.reference_ppm),
            "provenance": np.array(json.dumps(self.provenance.to_json(), indent=1)),
            **{f"fid_{name}": row for name, row in zip(self.names, self.fid, strict=True)},
        }


def simulate_file(path: Path, output: Path, reporter: Reporter) -> Fids:
    """Play the PRESS of a simulation file and write its FIDs (NPZ).

    Args:
        path: The simulation file (docs/simulate.md).
        output: The NPZ: `fid` (n_metabolites, n_samples), `names`, `dwell_s`, `f0_hz`, `reference_ppm`, `provenance`
            (JSON text), and each metabolite's row as `fid_NAME`.
        reporter: Told how far it is.

    Raises:
        InputError: If the file is wrong or the output no .npz; nothing is written then.
    """
    simulation = load_press_simulation(path)
    inputs = {"simulation": path, **simulation.files}
    if output.suffix != ".npz":
        raise InputError(f"The output must be an .npz file, but is {output}. Give it a name that ends in .npz.")
    made_from = {role: source(file) for role, file in inputs.items()}
    signals = []
    progress = reporter.progress("Simulation")
    systems = spin_systems(simulation)
    for number, system in enumerate(systems, 1):
        signals.append(press_fid(simulation, system))
        progress(number, len(systems))
    result = Fids(
        names=simulation.metabolites,
        fid=np.stack(signals),
        dwell_s=simulation.dwell_s,
        spectrometer_frequency_hz=simulation.spectrometer_frequency_hz,
        reference_ppm=simulation.reference_ppm,
        provenance=Provenance(made_from=made_from),
    )
    save_fids(result, output)
    return result


def press_timeline(simulation: PressSimulation) -> Timeline:
    """Return the PRESS of a simulation file: pulses centred at 0, te1/2 and te1 + te2/2, readout from te1 + te2.

    Ideal crushers fill the free time before and after each refocusing pulse, along x at the first and y at the second.
    """
    excitation = ideal_pulse(simulation.excitation.flip_rad, simulation.excitation.phase_rad, "excitation")
    first, second = (_refocusing(simulation, k) for k in (0, 1))
    moment = 0.0 if simulation.crushers == "none" else CRUSHER_MOMENT_PER_M

    def crushed(duration_s: float, axis: int) -> Interval:
        strength = moment / duration_s
        return delay(duration_s, (strength, 0.0, 0.0) if axis == 0 else (0.0, strength, 0.0))

    return Timeline(
        intervals=(
            excitation,
            crushed(0.5 * (simulation.te1_s - first.duration_s - excitation.duration_s), 0),
            first,
            crushed(0.5 * (simulation.te1_s - first.duration_s), 0),
            crushed(0.5 * (simulation.te2_s - second.duration_s), 1),
            second,
            crushed(0.5 * (simulation.te2_s - second.duration_s), 1),
            _readout(simulation),
        ),
        name="press",
    )


def _refocusing(simulation: PressSimulation, number: int) -> Interval:
    """Return the first (0) or second (1) refocusing pulse."""
    stated = simulation.refocusing
    if isinstance(stated, IdealRefocusing):
        return ideal_pulse(stated.flip_rad, stated.phase_rad, "refocusing")
    axis = stated.axes[number]
    gradient = torch.zeros(stated.pulse.b1_hz.shape[0], 3, dtype=torch.float64)
    gradient[:, "xyz".index(axis)] = stated.gradient_hz_per_m
    return Interval(
        dwell_s=stated.pulse.dwell_s,
        b1_hz=stated.pulse.b1_hz,
        gradient_hz_per_m=gradient,
        use="refocusing",
        centre_s=0.5 * stated.pulse.duration_s,
        name=f"{stated.pulse.name} along {axis}",
    )


def _readout(simulation: PressSimulation) -> Interval:
    """Return the readout."""
    receiver = Receiver(n_samples=simulation.n_samples, dwell_s=simulation.dwell_s)
    return Interval(
        dwell_s=receiver.duration_s,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=receiver,
    )


def press_fid(simulation: PressSimulation, system: SpinSystem) -> NDArray[np.complex128]:
    """Return the FID of a metabolite, its spin groups added up, complex, shape (n_samples,).

    The first sample is taken at the nominal echo, te1 + te2 after the excitation, where t = 0.
    """
    timeline = press_timeline(simulation)
    signal = torch.zeros(simulation.n_samples, dtype=torch.complex128)
    models = molecule_models(
        system, simulation.spectrometer_frequency_hz, simulation.reference_ppm, pseudo_spins=simulation.pseudo_spins
    )
    for model in models:
        signal += _group_fid(simulation, timeline, model)
    result: NDArray[np.complex128] = (OUTPUT_PHASE[simulation.output_phase] * signal).numpy()
    return result


def _group_fid(simulation: PressSimulation, timeline: Timeline, model: GroupModel) -> torch.Tensor:
    """Return the FID of one spin group, shape (n_samples,)."""
    stated = simulation.refocusing
    positions_m = None
    if not isinstance(stated, IdealRefocusing):
        positions_m = torch.linspace(
            -stated.position_max_m, stated.position_max_m, stated.n_positions, dtype=torch.float64
        )
    shot = prepare(
        [timeline],
        model,
        time_zero_s=timeline.readouts()[0][0],
        positions_m=positions_m,
        j_step_s=simulation.j_step_s,
    )
    found = lines(play(shot), model)
    n_samples, dwell_s = simulation.n_samples, simulation.dwell_s
    parts = [
        fid(found, min(_SAMPLES_AT_ONCE, n_samples - start), dwell_s, first_sample_s=start * dwell_s)
        for start in range(0, n_samples, _SAMPLES_AT_ONCE)
    ]
    return torch.cat(parts, -1)[0]


def save_fids(fids: Fids, path: Path) -> None:
    """Write FIDs as NPZ: under a temporary name, read back, renamed; equal FIDs give equal bytes.

    Raises:
        InputError: If the file cannot be written.
        VerificationError: If what was read back is not what was written.
    """
    arrays = fids.arrays()
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        try:
            with np.load(io.BytesIO(temporary.read_bytes()), allow_pickle=False) as read:
                same = set(read) == set(arrays) and all(np.array_equal(read[key], arrays[key]) for key in arrays)
        except (ValueError, KeyError, zipfile.BadZipFile, EOFError):
            same = False
        if not same:
            raise VerificationError(
                f"What was read back from {path} is not what was written, so it was removed. Check the disk, try again."
            )
