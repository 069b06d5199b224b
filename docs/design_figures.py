"""Make the pictures of the shipped designs and renew the tables of docs/designs.md: `python docs/design_figures.py`."""

import re
from collections.abc import Sequence
from pathlib import Path

from seqgen import library
from seqgen.axes import ppm_to_hz
from seqgen.design.artefact import Design, load_design, waveforms
from seqgen.design.evaluate import Metrics
from seqgen.design.spectra import FIT_RANGE_PPM
from seqgen.pipeline.evaluate import nominal_spectra
from seqgen.pipeline.study import Study, load_study
from seqgen.report.canvas import save_figure
from seqgen.report.designs import design_figure
from seqgen.simulate.observables import window_signal_bound
from seqgen.spin.hamiltonian import molecule_models

DOCS = Path(__file__).parent
PAGE = DOCS / "designs.md"
AROUND_WINDOW_PPM = 0.35
"""What a figure shows on either side of the window, ppm."""


def pair(name: str) -> tuple[Study, Design]:
    """Return protocol and design of a shipped design."""
    protocol, design = library.design_files(name)
    return load_study(protocol), load_design(design)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def times(te1_s: float, te2_s: float) -> str:
    """Return TE1 + TE2 in ms; a pulse alone has none."""
    return "-" if te1_s == te2_s == 0 else f"{te1_s * 1e3:.2f} + {te2_s * 1e3:.2f}"


def kinds(study: Study) -> str:
    """Return the shots of a protocol in words."""
    spec = study.protocol.design
    return spec.shots[0] if len(spec.shots) == 1 else f"{', '.join(spec.shots)}: {spec.combine}"


def what_they_are(names: Sequence[str]) -> str:
    """Return the table of problems and waveforms."""
    rows = []
    for name in names:
        study, design = pair(name)
        spec = study.protocol.design
        echo_times = dict.fromkeys(times(shot.te1_s, shot.te2_s) for shot in design.shots)
        pulses = [pulse for shot in design.shots for _, pulse in waveforms(shot)]
        iterations = sum(map(len, design.history))
        rows.append(
            (
                f"`{name}`",
                f"{spec.target} / {', '.join(spec.interferers) or '-'}",
                f"{spec.window_ppm[0]:g}-{spec.window_ppm[1]:g}",
                " and ".join(f"`{place}`" for place in spec.places),
                kinds(study),
                "; ".join(echo_times),
                times(design.press_te1_s, design.press_te2_s),
                ", ".join(f"{pulse.peak_hz:.0f}" for pulse in pulses) + f" ({spec.b1_max_hz:g})",
                ", ".join(f"{pulse.energy_hz2_s:.0f}" for pulse in pulses) + f" ({spec.energy_max_hz2_s:g})",
                f"{iterations}; {design.status}",
            )
        )
    header = (
        "design",
        "target / interferers",
        "window (ppm)",
        "place",
        "shots",
        "TE1 + TE2 (ms)",
        "plain PRESS (ms)",
        "peak (limit), Hz",
        "energy (limit), Hz^2 s",
        "iterations in all; status",
    )
    return table(header, rows)


def signal_bound(study: Study) -> float | None:
    """Return the bound of the target's window signal, the mean over the linewidths; None where there is none."""
    protocol, spec = study.protocol, study.protocol.design
    frequencies = (protocol.spectrometer_frequency_hz, protocol.water_shift_ppm)
    low, high = (ppm_to_hz(edge, *frequencies) for edge in spec.window_ppm)
    models = molecule_models(study.systems[spec.target], *frequencies)
    widths_hz = [spec.linewidth_hz + offset for offset in spec.linewidth_offsets_hz]
    found = [
        bound for width in widths_hz if (bound := window_signal_bound(models, (low, high), width).value) is not None
    ]
    return sum(found) / len(found) if len(found) == len(widths_hz) else None


def beside(numbers: Sequence[float | None], factor: float = 1.0) -> str:
    """Return "design / plain PRESS"."""
    return " / ".join("-" if number is None else f"{factor * number:.3f}" for number in numbers)


def what_they_reach(names: Sequence[str]) -> str:
    """Return the table of metrics, of the design and of its plain PRESS, as the design files state them."""
    rows = []
    for name in names:
        study, design = pair(name)
        spec, sample = study.protocol.design, study.protocol.sample.metabolites
        both = (design.metrics, design.press_metrics)
        bound = signal_bound(study)
        # With several interferers the file does not say how much each of them is.
        alone = spec.interferers[0] if len(spec.interferers) == 1 else None
        target_mm = sample[spec.target].concentration_mm
        ratio = 0.0 if alone is None or target_mm == 0 else sample[alone].concentration_mm / target_mm
        own = [
            beside([getattr(each, key) for each in both], ratio) if ratio > 0 else "-"
            for key in ("contamination", "area_contamination")
        ]
        rows.append(
            (
                f"`{name}`",
                beside([each.signal for each in both]),
                "no bound" if bound is None else f"{bound:.3f}",
                beside([each.contamination for each in both]),
                beside([each.area_contamination for each in both]),
                f"{1 / ratio:.2g} : 1" if ratio > 0 else "-",
                *own,
                beside([each.loss for each in both]),
                f"{design.metrics.loss - design.press_metrics.loss:+.3f}",
                crlb(*both),
                overlap(design.metrics),
            )
        )
    header = (
        "design / plain PRESS or hard pulse",
        "signal",
        "its bound",
        "contamination 1 : 1",
        "of areas",
        "in the sample",
        "contamination there",
        "of areas",
        "loss",
        "difference",
        "CRLB / PRESS's",
        "overlap of at most",
    )
    return table(header, rows)


def crlb(design: Metrics, press: Metrics) -> str:
    """Return the bounds of the amplitudes against those of plain PRESS, where both are stated."""
    both = [name for name in design.bounds if name in press.bounds]
    return ", ".join(f"{name} {design.bounds[name] / press.bounds[name]:.3f}" for name in both) or "-"


def overlap(design: Metrics) -> str:
    """Return the overlap with the wanted state and its largest value under unitaries, where there is such a state."""
    if design.overlap is None or design.overlap_maximum is None:
        return "-"
    return f"{design.overlap:.4f} of {design.overlap_maximum:.4f}"


def pictures(names: Sequence[str]) -> str:
    """Return the Markdown of all pictures."""
    return "\n\n".join(
        f"**`{name}`**: {pair(name)[0].protocol.description.rstrip('.')}.\n\n"
        f"![Waveforms and spectra of {name}](images/designs/{name}.png)"
        for name in names
    )


def renewed() -> str:
    """Return the page with everything between its marks made anew.

    Raises:
        ValueError: If a mark is missing.
    """
    text, names = PAGE.read_text(encoding="utf-8"), library.design_names()
    parts = {"what they are": what_they_are, "what they reach": what_they_reach, "pictures": pictures}
    for name, made in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{PAGE.name} must hold the marks of {name!r} once.")
        content = made(names) if names else "None is shipped yet."
        text = pattern.sub(lambda match, content=content: f"{match[1]}\n{content}\n\n{match[2]}", text)
    return text


def draw(name: str) -> None:
    """Write docs/images/designs/NAME.png: waveforms, and spectra at nominal B0 and B1."""
    study, design = pair(name)
    spec = study.protocol.design
    whole = bool({"crlb", "correlation"} & set(design.metrics.terms))
    low, high = spec.window_ppm
    range_ppm = FIT_RANGE_PPM if whole else (low - AROUND_WINDOW_PPM, high + AROUND_WINDOW_PPM)
    pulses = {
        (f"Shot {k + 1}, " if len(design.shots) > 1 else "") + " and ".join(places): pulse
        for k, shot in enumerate(design.shots)
        for places, pulse in waveforms(shot)
    }
    figure = design_figure(
        pulses,
        nominal_spectra(study, design, range_ppm),
        range_ppm=range_ppm,
        window_ppm=spec.window_ppm,
        signal_label=f"Signal (peak of {spec.target} after pulse-acquire = 1)",
    )
    path = DOCS / "images" / "designs" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    save_figure(figure, path)


def main() -> None:
    """Renew the page and its pictures."""
    PAGE.write_text(renewed(), encoding="utf-8", newline="\n")
    for name in library.design_names():
        draw(name)


if __name__ == "__main__":
    main()
