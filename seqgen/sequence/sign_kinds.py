"""The kinds of shots of a sign check: what the sequence labels and the reader of its data looks for."""

from enum import IntEnum
from typing import Final

NAME: Final = "sign_check"
"""Name of the sequence, and of its files in [DEFINITIONS]."""


class Kind(IntEnum):
    """What a shot tests; its value is the label SET."""

    REFERENCE = 0
    """A Gaussian pulse on water."""
    COUNTER = 1
    """Carrier at +F, waveform turning at -F: on water if both have one sense."""
    ALONG = 2
    """Carrier at +F, waveform turning at +F: on water if they have opposite senses."""
    WAVEFORM_PHASE = 3
    """Waveform times i."""
    RF_PHASE = 4
    """RF phase offset of 90 degrees."""
    ADC_PHASE = 5
    """ADC phase offset of 90 degrees."""
    ADC_FREQUENCY = 6
    """ADC frequency offset."""
    LINE = 7
    """Carrier on a second line of known shift."""
    MIRROR_LINE = 8
    """Carrier on the other side of water, as far away."""
    PROJECTION_X = 9
    """Water, read under a gradient along x."""
    PROJECTION_Y = 10
    """The same along y."""
    PROJECTION_Z = 11
    """The same along z."""
    SLAB_X = 12
    """Slab at +d along x, read along x."""
    OPPOSITE_SLAB_X = 13
    """Slab at -d along x."""
    SLAB_Y = 14
    """Slab at +d along y."""
    OPPOSITE_SLAB_Y = 15
    """Slab at -d along y."""
    SLAB_Z = 16
    """Slab at +d along z."""
    OPPOSITE_SLAB_Z = 17
    """Slab at -d along z."""


PROJECTIONS = (Kind.PROJECTION_X, Kind.PROJECTION_Y, Kind.PROJECTION_Z)
"""Projections along x, y, z."""
SLABS = (
    (Kind.SLAB_X, Kind.OPPOSITE_SLAB_X),
    (Kind.SLAB_Y, Kind.OPPOSITE_SLAB_Y),
    (Kind.SLAB_Z, Kind.OPPOSITE_SLAB_Z),
)
"""Slabs at +d and -d along x, y, z."""
