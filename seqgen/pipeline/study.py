"""A protocol with everything that follows from it, shared by all links."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from seqgen import config, library
from seqgen.provenance import Progress, Source, source
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.plugins import BuildContext, Built
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
class Study:
    """A protocol, its file, and the tables it draws on."""

    path: Path
    """The protocol's file."""
    protocol: config.Protocol
    """Its content."""
    source: Source
    """Its name and SHA-256."""

    @property
    def systems(self) -> Mapping[str, SpinSystem]:
        """Spin systems of the sample's metabolites."""
        extra = self.protocol.spin_systems_file
        return {name: library.spin_system(name, extra) for name in self.protocol.sample.metabolites}

    @property
    def relaxation(self) -> Mapping[str, Relaxation]:
        """Relaxation times of the sample's metabolites."""
        return {name: row.relaxation for name, row in self.protocol.sample.metabolites.items()}

    def context(self, pulse: RFPulse | None) -> BuildContext:
        """Return what a sequence is built with."""
        return BuildContext(
            scanner=self.protocol.scanner,
            spectrometer_frequency_hz=self.protocol.spectrometer_frequency_hz,
            water_shift_ppm=self.protocol.water_shift_ppm,
            editing_pulse=pulse,
        )

    def params(self, **changes: Any) -> Any:
        """Return the sequence's parameters with some changed."""
        return replace(self.protocol.sequence.params, **changes)

    def build(self, params: Any, pulse: RFPulse | None) -> Built:
        """Build the protocol's sequence."""
        return self.protocol.sequence.spec.build(params, self.context(pulse))


def load_study(path: Path) -> Study:
    """Read a protocol and remember its hash.

    Raises:
        InputError: With file and line of every problem.
    """
    return Study(path=path, protocol=config.load_protocol(path), source=source(path))
