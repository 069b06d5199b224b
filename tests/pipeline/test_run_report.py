"""What `seqgen run` refuses before it designs, and the report of a pulse alone beside that of PRESS."""

import html
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from seqgen import library
from seqgen.cli import main
from seqgen.design.artefact import load_design
from seqgen.errors import InputError
from seqgen.mrs.process import ProcessSettings
from seqgen.pipeline import report as report_link
from seqgen.pipeline import run as run_link
from seqgen.pipeline.analyse import fit_data, make_basis, process_data
from seqgen.pipeline.build import build_edited, build_plain
from seqgen.pipeline.evaluate import evaluate, nominal_spectra
from seqgen.pipeline.folder import RunFolder
from seqgen.pipeline.report import AROUND_WINDOW_PPM, compare_files, make_report
from seqgen.pipeline.scan import convert_raw, simulate_raw
from seqgen.pipeline.study import load_study

TIME = "2026-01-01T00:00:00Z"
DESIGNS = library.design_files("bench_citrate_inphase")[0].parent


class Silent:
    """Says nothing."""

    def say(self, text):
        pass

    def progress(self, label):
        return lambda done, total: None


def with_design(study, **changes):
    """The study with another design spec."""
    return replace(study, protocol=replace(study.protocol, design=replace(study.protocol.design, **changes)))


def shown(path):
    """The words of a report, tags gone."""
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text))


@pytest.fixture(scope="module")
def pulse_alone(tmp_path_factory):
    """(study, folder, (figure, panels) of the predicted spectra) of a pulse alone, its files named as by press."""
    protocol, design_path = library.design_files("bench_citrate_inphase")
    study, folder = load_study(protocol), RunFolder(path=tmp_path_factory.mktemp("alone"))
    folder.design.write_bytes(design_path.read_bytes())
    edited = build_edited(study, load_design(folder.design), folder.design, folder.path)
    plain = build_plain(study, None, folder.path)
    edited.paths[0].rename(folder.edited)
    plain.paths[0].rename(folder.plain)
    make_basis(study, folder.edited, folder.basis, Silent())
    simulate_raw(study, folder.edited, folder.raw, Silent())
    convert_raw(folder.raw, folder.edited, folder.data, time=TIME)
    process_data(folder.data, folder.processed, ProcessSettings(water_shift_ppm=4.65), time=TIME)
    fit_data(study, folder.processed, folder.basis, folder.edited, folder.fit)
    drawings, genuine = [], report_link.spectra_figure

    def drawn(panels, **options):
        figure = genuine(panels, **options)
        drawings.append((figure, panels))
        return figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_link, "spectra_figure", drawn)
        make_report(study, folder, Silent())
    return study, folder, drawings[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gaba_difference_3t", r"2 shots \(edited, edited; combine: difference\).*`--condition 0`, `--condition 1`"),
        ("bench_citrate_inphase", r"has sequence pulse_acquire, but `seqgen run` takes press.*`seqgen design`"),
    ],
)
def test_a_run_that_cannot_end_is_refused_before_the_design(tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(run_link, "make_design", lambda *_: pytest.fail("designed"))
    done = CliRunner().invoke(main, ["run", str(DESIGNS / f"{name}.yaml"), "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert re.search(words, " ".join(done.output.split())), done.output
    assert not (tmp_path / "run").exists()


def test_a_report_of_several_shots_is_refused(study, finished):
    several = with_design(study, shots=("edited", "plain"), combine="difference")
    with pytest.raises(InputError, match=r"2 shots \(edited, plain; combine: difference\).*`--condition 0`"):
        make_report(several, RunFolder(path=finished[0]), finished[2])


def test_the_report_of_press_names_it_and_the_interferer(finished):
    text = shown(finished[0] / "report.html")
    assert re.search(
        r"the edited sequence keeps [\d.]+ of .* Glu with \d+% of it from Gln at equal concentration", text
    )
    assert re.search(r"; PRESS with the echo times best for the same loss keeps [\d.]+ with \d+%\.", text)
    assert re.search(r"Term Edited TE-optimised PRESS .*Sequence Signal Contamination Loss TE-optimised PRESS", text)
    assert "Output measure (ratio, institutional, absolute) mM, by the unsuppressed water signal" in text
    assert re.search(r"TR, TE \(and TM\) TR \d+ ms, TE [\d.]+ ms", text)


def test_the_report_of_a_pulse_alone_speaks_of_a_hard_pulse(pulse_alone):
    _, folder, _ = pulse_alone
    page = folder.report.read_text(encoding="utf-8")
    for wrong in ("PRESS", "nan ", "0.0/0.0", "TE1 0.00", "from  at", "% of it"):
        assert wrong not in re.sub(r'src="[^"]*"', "", page), wrong
    text = shown(folder.report)
    assert re.search(r"the designed pulse keeps [\d.]+ of .* of Cit; the hard pulse keeps 1\.00\. Both", text)
    assert "Target; interferers Cit; none Echo times none: a pulse alone" in text
    assert re.search(r"Term Designed pulse Hard pulse .*Sequence Signal Loss Hard pulse [\d.]+ [\d.]+ Designed", text)
    assert re.search(r"TR, TE \(and TM\) TR 5000 ms ", text)
    assert "amplitudes, not scaled Analysis" in text.replace("3 Analysis", "Analysis")


def test_the_predicted_spectra_show_the_window_and_its_surroundings(pulse_alone):
    study, _, (figure, panels) = pulse_alone
    low, high = study.protocol.design.window_ppm
    assert [panel.title for panel in panels] == ["Designed pulse", "Hard pulse"]
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((high + 0.35, low - 0.35))
    for panel in panels:
        assert panel.ppm[0] == pytest.approx(low - 0.35)
        assert panel.ppm[-1] == pytest.approx(high + 0.35, abs=2e-3)


def test_a_window_anywhere_is_predicted(study, finished):
    """Upfield of all that plain in vivo spectra show."""
    compared = compare_files(with_design(study, window_ppm=(1.2, 1.4)), RunFolder(path=finished[0]))
    for prediction in (compared.edited, compared.press):
        assert prediction.ppm[0] == pytest.approx(1.2 - AROUND_WINDOW_PPM)
        assert prediction.ppm[-1] == pytest.approx(1.4 + AROUND_WINDOW_PPM, abs=0.01)
    assert all(0 < result.signal < float("inf") for result in compared.results.values())


def test_evaluate_names_the_hard_pulse(pulse_alone):
    study, folder, _ = pulse_alone
    assert load_design(folder.design).baseline_name == "Hard pulse"
    text = evaluate(study, folder.design).text()
    assert re.match(r"\s+design\s+Hard pulse\s", text)
    panels = nominal_spectra(study, load_design(folder.design), (2.1, 3.1))
    assert [panel.title for panel in panels] == ["Designed", "Hard pulse"]


def test_echo_times_of_every_shot_are_told(study, finished):
    design = load_design(finished[0] / "design.json")
    other = replace(design.shots[0], te1_s=0.04, te2_s=0.05)
    seq = report_link.read_seq(finished[0] / "press_edited.seq")
    rows = dict(report_link._what(study, replace(design, shots=(design.shots[0], other)), seq).items[0].rows)
    first = f"TE1 {design.te1_s * 1e3:.2f} ms, TE2 {design.te2_s * 1e3:.2f} ms"
    assert rows["Echo times"] == f"{first}; TE1 40.00 ms, TE2 50.00 ms"
