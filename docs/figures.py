"""Make the pictures of README and docs from a run folder: `python docs/figures.py PROTOCOL RUN_FOLDER`."""

import sys
from pathlib import Path

from seqgen.design.artefact import load_design
from seqgen.pipeline.folder import RunFolder
from seqgen.pipeline.report import compare_files
from seqgen.pipeline.study import load_study
from seqgen.report.canvas import save_figure
from seqgen.report.spectra import SpectraPanel, spectra_figure


def main(protocol: str, run_folder: str) -> None:
    """Write docs/images/predicted.png."""
    study, folder = load_study(Path(protocol)), RunFolder(path=Path(run_folder))
    design, compared = load_design(folder.design), compare_files(study, folder)
    te = [(design.te1_s, design.te2_s), (design.press_te1_s, design.press_te2_s)]
    panels = [
        SpectraPanel(
            title=f"{name} {a * 1e3:.1f}/{b * 1e3:.1f} ms: Gln {result.contamination:.0%}",
            ppm=prediction.ppm,
            curves={metabolite: values.real for metabolite, values in prediction.spectra.items()},
        )
        for name, (a, b), prediction, result in (
            ("Edited PRESS", te[0], compared.edited, compared.results["edited"]),
            ("Best plain PRESS", te[1], compared.press, compared.results["press"]),
        )
    ]
    figure = spectra_figure(
        panels, range_ppm=(1.9, 2.7), window_ppm=study.protocol.design.window_ppm, signal_label="Signal (arb. units)"
    )
    save_figure(figure, Path(__file__).parent / "images" / "predicted.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
