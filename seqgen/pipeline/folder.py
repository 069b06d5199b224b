"""Names of the files in a run folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """Where a run keeps what; the same names whichever command writes them."""

    path: Path
    """The folder."""

    @property
    def protocol(self) -> Path:
        """Copy of the protocol."""
        return self.path / "protocol.yaml"

    @property
    def design(self) -> Path:
        """Pulse and timings."""
        return self.path / "design.json"

    @property
    def edited(self) -> Path:
        """PRESS with the pulse, Pulseq 1.5.0."""
        return self.path / "press_edited.seq"

    @property
    def plain(self) -> Path:
        """TE-optimised PRESS, Pulseq 1.5.0."""
        return self.path / "press.seq"

    @property
    def checks(self) -> Path:
        """Checks of the edited file."""
        return self.path / "check.json"

    @property
    def raw(self) -> Path:
        """Raw data of the simulated scan."""
        return self.path / "raw.h5"

    @property
    def basis(self) -> Path:
        """Basis set of the edited file."""
        return self.path / "basis.npz"

    @property
    def data(self) -> Path:
        """Converted transients."""
        return self.path / "data.nii.gz"

    @property
    def processed(self) -> Path:
        """Processed spectrum."""
        return self.path / "processed.nii.gz"

    @property
    def fit(self) -> Path:
        """Fit."""
        return self.path / "fit.json"

    @property
    def report(self) -> Path:
        """Report."""
        return self.path / "report.html"
