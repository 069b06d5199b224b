"""What a file will show: lines and spectra of metabolites, simulated from the file itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.axes import ppm_to_hz
from seqgen.model.lineshape import lines_to_spectrum
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import SeqFile
from seqgen.seqfile.shots import shots
from seqgen.simulate.acquire import Lines
from seqgen.simulate.molecule import molecule_lines
from seqgen.simulate.pathways import principal_echo
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Interval, Receiver, Timeline, ideal_pulse


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """Spectra of metabolites after one file, per mM, T2 decay over TE counted."""

    seq_name: str
    """The file."""
    te_s: float
    """Echo time from RF centres, s."""
    ppm: NDArray[np.float64]
    """Axis, ppm, ascending, shape (m,)."""
    spectra: dict[str, NDArray[np.complex128]]
    """Spectrum of each metabolite, absorption in the real part, shape (m,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowResult:
    """How target and interferers share a window."""

    signal: float
    """Root of the target's window energy over that after a perfect pulse-acquire."""
    contamination: float
    """Root of the interferers' window energy over the target's, at equal concentrations."""


def predict(
    seq: SeqFile,
    systems: Mapping[str, SpinSystem],
    relaxation: Mapping[str, Relaxation],
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    linewidth_hz: float,
    range_ppm: tuple[float, float] = (1.7, 4.2),
    step_hz: float = 0.5,
    condition: int | None = None,
) -> Prediction:
    """Simulate metabolites through a file and return their spectra.

    Args:
        seq: The file.
        systems: Metabolites.
        relaxation: Their T2 counts over TE.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Shift there (water), ppm.
        linewidth_hz: Lorentzian full width at half maximum, Hz.
        range_ppm: Range of the spectra.
        step_hz: Step of the axis.
        condition: Editing condition (label SET), for files with several; default that of the first shot.
    """
    cycle = phase_cycle(shots(seq), condition=condition)
    te_s = principal_echo(cycle).te_s
    low, high = (ppm_to_hz(edge, spectrometer_frequency_hz, reference_ppm) for edge in range_ppm)
    axis = torch.arange(low, high, step_hz, dtype=torch.float64)
    spectra = {}
    for name, system in systems.items():
        molecule = molecule_lines(
            cycle, system, spectrometer_frequency_hz=spectrometer_frequency_hz, reference_ppm=reference_ppm
        )
        decay = float(np.exp(-te_s / relaxation[name].t2_s))
        spectra[name] = _spectrum(molecule, axis, linewidth_hz) * decay
    return Prediction(
        seq_name=seq.name,
        te_s=te_s,
        ppm=reference_ppm + axis.numpy() / spectrometer_frequency_hz * 1e6,
        spectra=spectra,
    )


def window_result(
    prediction: Prediction,
    target: str,
    interferers: tuple[str, ...],
    window_ppm: tuple[float, float],
    reference: NDArray[np.complex128],
) -> WindowResult:
    """Return signal and contamination in a window.

    Args:
        prediction: From `predict`.
        target: Wanted metabolite.
        interferers: Those that should be small.
        window_ppm: Low and high edge, ppm.
        reference: The target's spectrum after a perfect pulse-acquire, on the same axis (`pulse_acquire_spectrum`).
    """
    inside = (prediction.ppm >= window_ppm[0]) & (prediction.ppm <= window_ppm[1])

    def energy(spectrum: NDArray[np.complex128]) -> float:
        return float((np.abs(spectrum[inside]) ** 2).sum())

    wanted = energy(prediction.spectra[target])
    unwanted = sum(energy(prediction.spectra[name]) for name in interferers)
    return WindowResult(
        signal=float(np.sqrt(wanted / energy(reference))), contamination=float(np.sqrt(unwanted / wanted))
    )


def pulse_acquire_spectrum(
    system: SpinSystem,
    prediction: Prediction,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    linewidth_hz: float,
) -> NDArray[np.complex128]:
    """Return the spectrum after an ideal 90-degree pulse, no relaxation, on the axis of a prediction."""
    receiver = Interval(
        dwell_s=1.0,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=Receiver(n_samples=4, dwell_s=0.25),
    )
    timeline = Timeline(intervals=(ideal_pulse(np.pi / 2, np.pi / 2, "excitation"), receiver), name="pulse-acquire")
    molecule = molecule_lines(
        [timeline], system, spectrometer_frequency_hz=spectrometer_frequency_hz, reference_ppm=reference_ppm
    )
    axis = torch.from_numpy((prediction.ppm - reference_ppm) * 1e-6 * spectrometer_frequency_hz)
    return _spectrum(molecule, axis, linewidth_hz)


def _spectrum(molecule: Lines, axis_hz: torch.Tensor, linewidth_hz: float) -> NDArray[np.complex128]:
    """Return the Lorentzian spectrum of the first member's lines."""
    values = lines_to_spectrum(molecule.amplitude[0], molecule.frequency_hz, axis_hz, linewidth_hz)
    result: NDArray[np.complex128] = values.numpy()
    return result
