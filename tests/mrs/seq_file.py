"""Makes a small signed PRESS `.seq` of version 1.4.1 as text, every time chosen by hand.

Pulses of 1 ms, centres 20 and 40 ms apart, give an echo 80 ms after the excitation, whatever the receiver does.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

TE_S, TR_S, N_SAMPLES, DWELL_S = 0.08, 1.5, 256, 2.5e-4
SIGNED = "\n[SIGNATURE]\nType md5\nHash {}\n"

# blocks: duration in 10 us, RF, GX, GY, GZ, ADC, EXT
_SHOT = """{n} 200 1 {x} 0 0 0 0
{n} 110 0 {rewind} 0 0 0 0
{n} 1430 0 0 0 0 0 0
{n} 260 0 4 0 0 0 0
{n} 200 2 0 {y} 0 0 0
{n} 260 0 4 0 0 0 0
{n} 3280 0 0 0 0 0 0
{n} 260 0 0 5 0 0 0
{n} 200 3 0 0 {z} 0 0
{n} 260 0 0 5 0 0 0
{n} 143540 0 0 0 0 {adc} {ext}
"""


def write_seq(
    path: Path,
    *,
    n_metabolite: int = 4,
    n_water: int = 2,
    n_noise: int = 0,
    dummies: int = 0,
    opens_s: float = TE_S,
    receiver_hz: float = 0.0,
    definitions: Mapping[str, str] | None = None,
    selects: str = "xyz",
    flip_deg: float = 90.0,
    signature: bool = True,
) -> Path:
    """Write dummy scans, metabolite shots and water references (label REF); the receiver opens after `opens_s`."""
    axes = {axis: 1 if axis in selects else 0 for axis in "xyz"}
    blocks, labels = [], []
    kinds = ["dummy"] * dummies + ["metabolite"] * n_metabolite + ["water"] * n_water
    if n_noise:
        blocks += ["{n} 10000 0 0 0 0 1 1\n"] * n_noise
        labels.append((1, "NOISE"))
    for k, kind in enumerate(kinds):
        labels.append((k, "AVG"))
        labels.append((int(kind == "water"), "REF"))
        labels.append((0, "NOISE"))
        first = len(labels) - 2
        adc, ext = (0, 0) if kind == "dummy" else (1, first)
        rewind = 2 if "x" in selects else 0
        blocks.append(_SHOT.format(n="{n}", rewind=rewind, adc=adc, ext=ext, **axes))
    lines = "".join(blocks).splitlines()
    extensions = [f"{k} 1 {k} {0 if name == 'NOISE' else k + 1}" for k, (_, name) in enumerate(labels, 1)]
    delay_us = (opens_s - 0.06 - 0.0036) * 1e6
    text = "\n".join(
        [
            "[VERSION]\nmajor 1\nminor 4\nrevision 1\n[DEFINITIONS]\nAdcRasterTime 1e-07\nBlockDurationRaster 1e-05",
            "GradientRasterTime 1e-05\nRadiofrequencyRasterTime 1e-06\nName test_press",
            *(f"{key} {value}" for key, value in (definitions or {}).items()),
            "[BLOCKS]",
            *(line.format(n=n) for n, line in enumerate(lines, 1)),
            f"[RF]\n1 {250 * flip_deg / 90} 1 0 2 500 0 0\n2 500 1 0 2 500 0 1.5707963\n3 500 1 0 2 500 0 1.5707963",
            "[TRAP]\n1 100000 100 1800 100 0\n2 -100000 100 850 100 0",
            "4 300000 300 2000 300 0\n5 200000 300 2000 300 0",
            f"[ADC]\n1 {N_SAMPLES} {DWELL_S * 1e9:.0f} {delay_us:.0f} {receiver_hz} 0",
            "[EXTENSIONS]",
            *extensions,
            "extension LABELSET 1",
            *(f"{k} {value} {name}" for k, (value, name) in enumerate(labels, 1)),
            "[SHAPES]\nshape_id 1\nnum_samples 2\n1\n1\nshape_id 2\nnum_samples 2\n0\n1000\n",
        ]
    )
    path.write_text(text + (SIGNED.format(hashlib.md5(text.encode()).hexdigest()) if signature else ""))
    return path
