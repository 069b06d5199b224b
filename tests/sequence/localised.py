"""The localised sequences as the tests build them, written and read back by PyPulseq (`isochromats`)."""

from dataclasses import dataclass
from typing import Any

import isochromats
from press_files import F0_HZ, WATER_PPM, context, write
from scipy.spatial.transform import Rotation
from seqgen_sequences.isis_press import ISIS_PRESS
from seqgen_sequences.mega_press import MEGA_PRESS
from seqgen_sequences.press import PRESS
from seqgen_sequences.slaser import SLASER
from seqgen_sequences.steam import STEAM

from seqgen.sequence.contract import sensible_params

CARRIER_PPM = 2.8
CARRIER_HZ = (CARRIER_PPM - WATER_PPM) * F0_HZ * 1e-6
"""Offset of the spins for which the slices sit where asked, Hz."""
SIZE_M = (0.02, 0.022, 0.025)
OBLIQUE = {"voxel_position_m": (0.02, -0.015, 0.03), "voxel_rotation_rad": (0.3, -0.2, 0.4)}
AXES = Rotation.from_euler("xyz", OBLIQUE["voxel_rotation_rad"]).as_matrix().T


@dataclass(frozen=True)
class Kind:
    """A sequence with echo times above its minimum, so that the first sample is taken at the echo."""

    spec: Any
    steps: int
    """Shots of the two-step cycle, all editing conditions together."""
    times: dict[str, float]
    full: float = 1.0
    """Signal of perfect pulses, in units of M0."""
    sets: int = 1


KINDS = {
    "press": Kind(PRESS, 2, {"te1_s": 0.02, "te2_s": 0.02}),
    "mega_press": Kind(MEGA_PRESS, 4, {"te1_s": 0.014, "te2_s": 0.054}, sets=2),
    "steam": Kind(STEAM, 2, {"te_s": 0.02}, full=0.5),
    "slaser": Kind(SLASER, 2, {"te_s": 0.044}),
    "isis_press": Kind(ISIS_PRESS, 4, {"te1_s": 0.02, "te2_s": 0.02}),
}


def shots_of(kind, folder, **changes):
    """Return the shots of one phase cycle; of MEGA-PRESS ON and OFF in turn."""
    made = KINDS[kind]
    changes = {"averages": made.steps, **made.times, **changes}
    params = sensible_params(
        made.spec,
        context(),
        voxel_size_m=SIZE_M,
        adc_samples=512,
        dummy_scans=0,
        water_suppression="none",
        water_reference_averages=0,
        **changes,
    )
    path = write(folder / f"{kind}.seq", made.spec.build(params, context()))
    return isochromats.read_shots(path)
