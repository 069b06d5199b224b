"""A protocol with everything that follows from it, shared by all links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from seqgen import config, library
from seqgen.errors import InputError
from seqgen.exposure import ExposureLimits
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.provenance import Progress, Source, source
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.plugins import BuildContext, Built, DesignedShot, plays_shots
from seqgen.spin.system import Relaxation, SpinSystem


class Reporter(Protocol):
    """How a link tells the user what it does."""

    def say(self, text: str) -> None:
        """Print a line."""
        ...

    def progress(self, label: str) -> Progress:
        """Return a progress bar's update function."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanStudy:
    """The protocol of a scan and its file: what a sequence is built from."""

    path: Path
    """The protocol's file."""
    protocol: config.ScanProtocol
    """Its content."""
    source: Source
    """Its name and SHA-256."""
    voxel_from: Source | None = None
    """The NIfTI file that placed the voxel instead of the protocol (`pipeline.voxel.study_with_voxel`), or None."""

    def context(self, pulse: RFPulse | None, shots: tuple[DesignedShot, ...] = ()) -> BuildContext:
        """Return what a sequence is built with: a designed pulse, or the shots of a design, or neither."""
        return BuildContext(
            scanner=self.protocol.scanner,
            spectrometer_frequency_hz=self.protocol.spectrometer_frequency_hz,
            water_shift_ppm=self.protocol.water_shift_ppm,
            editing_pulse=pulse,
            editing_shots=shots,
        )

    def params(self, **changes: Any) -> Any:
        """Return the sequence's parameters with some changed."""
        return replace(self.protocol.sequence.params, **changes)

    def params_at(self, te1_s: float, te2_s: float, **changes: Any) -> Any:
        """Return the sequence's parameters with echo times, as far as it has some, and others changed."""
        known = {field.name for field in fields(self.protocol.sequence.params)}
        times = {"te1_s": te1_s, "te2_s": te2_s}
        return self.params(**{name: value for name, value in times.items() if name in known}, **changes)

    def build(self, params: Any, pulse: RFPulse | None, shots: tuple[DesignedShot, ...] = ()) -> Built:
        """Build the protocol's sequence.

        Raises:
            InputError: If it cannot play the shots of a design, or refuses its parameters.
        """
        spec = self.protocol.sequence.spec
        if shots and not plays_shots(spec):
            raise InputError(
                f"Sequence {spec.name!r} plays one designed pulse, but this design has {len(shots)} shots or several "
                "waveforms. Use press, or design one shot with one waveform."
            )
        return spec.build(params, self.context(pulse, shots))

    @property
    def energy_max_hz2_s(self) -> float | None:
        """Largest energy of the editing pulse, Hz^2 s; None where no design is stated."""
        return self.protocol.design.energy_max_hz2_s if isinstance(self.protocol, config.Protocol) else None

    @property
    def exposure(self) -> ExposureLimits:
        """Limits of B1+rms and SAR: the protocol's on its scanner."""
        return library.exposure_limits(self.protocol.scanner, self.protocol.exposure)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Study(ScanStudy):
    """A study with sample, design and fit, and the tables it draws on."""

    protocol: config.Protocol
    """Its content."""

    @property
    def systems(self) -> Mapping[str, SpinSystem]:
        """Spin systems of the sample's metabolites."""
        extra = self.protocol.spin_systems_file
        return {name: library.spin_system(name, extra) for name in self.protocol.sample.metabolites}

    @property
    def macromolecule_peaks(self) -> Sequence[MacromoleculePeak]:
        """Peaks of the sample's macromolecules; none where it has none."""
        model = self.protocol.sample.macromolecules
        return () if model == "none" else library.macromolecule_peaks(model)

    @property
    def relaxation(self) -> Mapping[str, Relaxation]:
        """Relaxation times of the sample's metabolites."""
        return {name: row.relaxation for name, row in self.protocol.sample.metabolites.items()}


def load_study(path: Path) -> Study:
    """Read a protocol and remember its hash.

    Raises:
        InputError: With file and line of every problem.
    """
    return Study(path=path, protocol=config.load_protocol(path), source=source(path))


def load_scan_study(path: Path) -> ScanStudy:
    """Read the protocol of a scan, or of a whole study (then a `Study`), and remember its hash.

    Raises:
        InputError: With file and line of every problem.
    """
    protocol = config.load_scan_protocol(path)
    if isinstance(protocol, config.Protocol):
        return Study(path=path, protocol=protocol, source=source(path))
    return ScanStudy(path=path, protocol=protocol, source=source(path))


def study_at_conditions(study: Study, b0_offsets_hz: Sequence[float], b1_scales: Sequence[float]) -> Study:
    """Return the study with another ensemble: field offsets (Hz) and relative B1.

    Frequency, linewidth and temperature are its own. Where there is one spectrum, the loss is that of the window, which
    needs target and interferers alone.
    """
    spec = study.protocol.design
    one_spectrum = len(spec.shots) == 1 or spec.combine == "difference"
    spec = replace(
        spec,
        loss={"window": 1.0} if one_spectrum else spec.loss,
        b0_offsets_hz=tuple(b0_offsets_hz),
        b1_scales=tuple(b1_scales),
        linewidth_offsets_hz=(0.0,),
        temperature_offsets_k=(0.0,),
        other_frequencies_hz=(),
    )
    return replace(study, protocol=replace(study.protocol, design=spec))
