"""Scanner profiles: rasters, dead times and limits as data; the one decision is whether files can be read there."""

from dataclasses import dataclass

from seqgen.errors import HardwareLimitError
from seqgen.units import tesla_to_hz

OLDEST_PULSEQ_FORMAT = 1.4
"""Oldest Pulseq format that seqgen writes (1.4.1), major.minor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanner:
    """What a scanner can play. Values with sources are in data/scanners.yaml."""

    name: str
    """Profile name, for example "siemens_prisma_3t"."""
    vendor: str
    """Vendor of the Pulseq interpreter: "siemens", "ge", ..."""
    b0_nominal_t: float
    """Nominal field, T; the true field follows from the protocol's spectrometer frequency."""
    max_gradient_t_per_m: float
    """Largest gradient amplitude per axis, T/m."""
    max_slew_t_per_m_per_s: float
    """Largest slew rate per axis, T/m/s."""
    b1_max_t: float
    """Largest RF amplitude, T."""
    rf_raster_s: float
    """RF raster, s."""
    gradient_raster_s: float
    """Gradient raster, s."""
    adc_raster_s: float
    """ADC raster, s."""
    block_raster_s: float
    """Raster of block durations, s."""
    rf_dead_time_s: float
    """Time needed before RF, s."""
    rf_ringdown_s: float
    """Time needed after RF, s."""
    adc_dead_time_s: float
    """Time needed before and after a readout, s."""
    adc_samples_divisor: int = 4
    """Number of ADC samples must be divisible by this."""
    adc_samples_max: int = 8192
    """Most samples of a readout."""
    newest_pulseq_format: float | None = None
    """Newest Pulseq format that the interpreter reads, major.minor; None: 1.4.1 or 1.5.0, which seqgen writes."""
    segment_gap_s: float | None = None
    """Time that the interpreter adds after every segment, s; None: its files need no segments (labels TRID)."""
    segment_rf_wait_s: float = 0.0
    """By how much the interpreter plays RF later within a segment, to await the gradients, s."""
    segment_adc_wait_s: float = 0.0
    """By how much it opens readouts later, s."""
    usable_radius_m: float | None = None
    """Radius about the isocentre within which field and gradients serve, m (half the diameter of spherical volume that
    the vendor states); None: not stated, so that a voxel's place is not checked."""
    rf_samples_max: int | None = None
    """Most samples of an RF pulse on the RF raster; None: not stated."""
    b1_rms_max_t: float | None = None
    """Largest B1+rms over any 10 s, T; None: not stated."""
    sar_head_w_per_kg_per_ut2: float | None = None
    """SAR of the head for a B1+rms of 1 uT, W/kg per uT^2, the upper end of its range; None: not known, so that the
    head's SAR is not checked."""
    sar_whole_body_w_per_kg_per_ut2: float | None = None
    """The same of the whole body."""

    @property
    def b1_max_hz(self) -> float:
        """Largest RF amplitude gamma*B1/2pi, Hz."""
        return tesla_to_hz(self.b1_max_t)

    @property
    def max_gradient_hz_per_m(self) -> float:
        """Largest gradient amplitude, Hz/m."""
        return tesla_to_hz(self.max_gradient_t_per_m)

    @property
    def max_slew_hz_per_m_per_s(self) -> float:
        """Largest slew rate, Hz/m/s."""
        return tesla_to_hz(self.max_slew_t_per_m_per_s)

    @property
    def requires_segments(self) -> bool:
        """Whether files need a label TRID at the start of every segment."""
        return self.segment_gap_s is not None


def require_pulseq_format(scanner: Scanner) -> None:
    """Refuse a scanner whose interpreter reads no format that seqgen writes.

    Raises:
        HardwareLimitError: If its newest format is older than 1.4.

    Example:
        >>> from seqgen.library import scanner
        >>> require_pulseq_format(scanner("siemens_prisma_3t"))
        >>> require_pulseq_format(scanner("marcos"))
        Traceback (most recent call last):
        ...
        seqgen.errors.HardwareLimitError: The interpreter of marcos reads Pulseq files up to format 1.3, but seqgen ...
    """
    newest = scanner.newest_pulseq_format
    if newest is not None and newest < OLDEST_PULSEQ_FORMAT:
        raise HardwareLimitError(
            f"The interpreter of {scanner.name} reads Pulseq files up to format {newest:g}, but seqgen writes 1.4.1 "
            "and 1.5.0 only and has no converter. Choose the profile of a scanner that reads one of these."
        )
