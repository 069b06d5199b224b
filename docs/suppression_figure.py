"""Make docs/images/suppression.png: `python docs/suppression_figure.py`."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from seqgen.library import scanner
from seqgen.report.canvas import BLUE, GREY, LIGHT, VERMILION, figure_style, new_figure, save_figure
from seqgen.seqfile.blocks import Block
from seqgen.sequence.outer_volume import OuterVolumeParams, slab_block, slabs
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.suppression import (
    VAPOR_DELAY_S,
    VAPOR_FLIP_DEG,
    WET_FLIP_DEG,
    WaterSuppression,
    longitudinal,
    vapor,
    wet,
)
from seqgen.simulate.slices import response
from seqgen.timeline import Interval
from seqgen.units import tesla_to_hz

PAGE = Path(__file__).parent / "images" / "suppression.png"
T1_S, B1 = (0.83, 4.5), (0.8, 1.2)
WATER_PPM = 4.65


def draw_water(axes: Axes, train: WaterSuppression, published_deg: tuple[float, ...]) -> None:
    """Largest |Mz| over T1 against B1, optimised and published."""
    b1 = np.linspace(0.6, 1.4, 321)
    t1 = np.geomspace(*T1_S, 9)[:, None]
    axes.axvspan(*B1, color=LIGHT, alpha=0.6, linewidth=0, zorder=0)
    for label, flips, colour in (
        ("published", np.radians(published_deg), GREY),
        ("optimised", np.array(train.flip_angle_rad), BLUE),
    ):
        left = [longitudinal(flips, train.delay_s, t1_s=t1, b1_scale=b1, first_mz=first) for first in (0.5, 1.0)]
        axes.semilogy(b1, 100 * np.abs(left).max((0, 1)), color=colour, label=label)
    axes.set(title=train.name, xlabel="B1 relative to nominal", xlim=(0.6, 1.4), ylim=(1e-2, 30))
    axes.yaxis.set_major_formatter(lambda percent, _: f"{percent:g} %")
    axes.legend(loc="upper center")


def draw_slabs(axes: Axes) -> None:
    """Mz along an axis of the voxel after its two slabs, for lipids and for water."""
    params = OuterVolumeParams(voxel_size_m=(0.02, 0.02, 0.02), outer_volume_suppression=True, outer_volume_axes=(1,))
    profile = scanner("siemens_prisma_3t")
    context = BuildContext(
        scanner=profile, spectrometer_frequency_hz=tesla_to_hz(profile.b0_nominal_t), water_shift_ppm=WATER_PPM
    )
    x_m = np.linspace(-0.055, 0.055, 1101)
    axes.axvspan(-10, 10, color=LIGHT, alpha=0.6, linewidth=0, zorder=0)
    for label, ppm, colour in (("lipids, 1.3 ppm", 1.3, VERMILION), ("water", WATER_PPM, BLUE)):
        mz = np.ones_like(x_m)
        for slab in slabs(params):
            block = slab_block(slab, params, context).block
            mz *= mz_after(block, x_m, (ppm - WATER_PPM) * 1e-6 * context.spectrometer_frequency_hz)
        axes.plot(x_m * 1e3, mz, color=colour, label=label)
    axes.set(title="Slabs beside 20 mm", xlabel="Position (mm)", ylabel="Mz / M0", xlim=(-55, 55))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08))


def mz_after(block: Block, x_m: np.ndarray, offset_hz: float) -> np.ndarray:
    """Return Mz along x after the RF of a block, from equilibrium."""
    assert block.rf is not None
    assert block.gradients[0] is not None
    t_s = (torch.arange(block.rf.b1_hz.shape[0], dtype=torch.float64) + 0.5) * block.rf.raster_s
    played = Interval(
        dwell_s=block.rf.raster_s,
        b1_hz=block.rf.b1_hz * torch.exp(2j * math.pi * block.rf.frequency_hz * t_s),
        gradient_hz_per_m=torch.zeros(len(t_s), 3, dtype=torch.float64),
        use="saturation",
        centre_s=block.rf.centre_s,
        carrier_hz=block.rf.frequency_hz,
    )
    return (1 - 2 * response(played, torch.from_numpy(block.gradients[0].amplitude_hz_per_m * x_m + offset_hz))).numpy()


def main() -> None:
    """Write the figure."""
    with figure_style():
        figure = new_figure(3.4)
        left, middle, right = figure.subplots(1, 3)
        draw_water(left, wet(0.06, T1_S, B1), WET_FLIP_DEG)
        draw_water(middle, vapor(VAPOR_DELAY_S, T1_S, B1), VAPOR_FLIP_DEG)
        left.set_ylabel("Largest |Mz| / M0")
        draw_slabs(right)
    save_figure(figure, PAGE)


if __name__ == "__main__":
    main()
