"""Draw docs/images/sign_check.png: what a faithful and a conjugating interpreter make of the sign check."""

import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from seqgen import library
from seqgen.axes import frequency_axis_hz, spectrum
from seqgen.report.canvas import BLUE, GREY, VERMILION, figure_style, save_figure
from seqgen.seqfile.reader import read_seq, shots
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.plugins import BuildContext, find_sequence
from seqgen.sequence.sign_kinds import Kind

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from sign_scanner import Interpreter, Phantom, scan  # noqa: E402

SHOWN = (
    (Kind.REFERENCE, "reference"),
    (Kind.COUNTER, "counter"),
    (Kind.ALONG, "along"),
    (Kind.WAVEFORM_PHASE, "waveform times i"),
    (Kind.ADC_FREQUENCY, "ADC +500 Hz"),
    (Kind.LINE, "second line, x5"),
    (Kind.MIRROR_LINE, "mirror of it, x5"),
)
CASES = (
    ("faithful", Interpreter(), BLUE),
    ("waveform conjugated", Interpreter(waveform=-1), VERMILION),
    ("samples conjugated", Interpreter(samples=-1), VERMILION),
)


def main() -> None:
    """Build the sequence, scan it three times, draw."""
    spec = find_sequence("sign_check")
    scanner = library.scanner("siemens_prisma_3t")
    frequency_hz = 123.2e6
    context = BuildContext(scanner=scanner, spectrometer_frequency_hz=frequency_hz, water_shift_ppm=4.8)
    built = spec.build(spec.Params(), context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sign_check.seq"
        write_seq(
            built.blocks,
            path,
            scanner=scanner,
            spectrometer_frequency_hz=frequency_hz,
            definitions=built.definitions,
        )
        seq = read_seq(path)
    kinds = [shot.labels["SET"] for shot in shots(seq)]
    hz = frequency_axis_hz(512, 1e-4)
    early = np.sin(math.pi * np.sqrt((np.arange(512) + 0.5) / 512)) ** 2
    with figure_style():
        figure = Figure(figsize=(9.0, 7.0), layout="constrained")
        grid = figure.subplots(len(SHOWN), len(CASES), sharex=True, sharey=True)
        for column, (title, interpreter, colour) in enumerate(CASES):
            samples = scan(seq, interpreter, Phantom(), snr=60.0)[:, 0]
            mean = {kind: samples[[k for k, s in enumerate(kinds) if s == kind]].mean(0) for kind, _ in SHOWN}
            reference = spectrum(mean[Kind.REFERENCE] * early)
            top = reference[abs(reference).argmax()]
            for row, (kind, name) in enumerate(SHOWN):
                axes = grid[row, column]
                values = spectrum(mean[kind] * early) / top * (5 if name.endswith("x5") else 1)
                axes.plot(hz, values.real, color=colour)
                axes.plot(hz, values.imag, color=GREY, linewidth=0.8)
                axes.set_xlim(-700, 700)
                axes.set_ylim(-1.3, 1.3)
                axes.set_yticks([])
                if column == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
            grid[0, column].set_title(title)
            grid[-1, column].set_xlabel("Frequency as stored (Hz)")
        save_figure(figure, ROOT / "docs" / "images" / "sign_check.png")


if __name__ == "__main__":
    main()
