import errno
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pypulseq as pp
import pytest
import torch
from press_files import F0_HZ, SCANNER, build, random_pulse, write

from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import pulseq_system, write_seq

FORMATS = ("1.5.0", "1.4.1")


@pytest.fixture(scope="module")
def built():
    return build(random_pulse())


@pytest.fixture(scope="module")
def files(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    return {form: write(folder / f"{form}.seq", built, form) for form in FORMATS}


def section(text, name):
    """Rows of a section of a .seq file, comments left out."""
    body = text.split(f"[{name}]\n")[1].split("\n\n")[0]
    return [line.split() for line in body.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("form", FORMATS)
def test_rf_is_written_on_the_rf_raster_without_a_time_shape(files, form):
    text = files[form].read_text()
    assert re.search(r"RadiofrequencyRasterTime 1e-06 *\n", text)
    rows = section(text, "RF")
    assert len(rows) == 2 + 4 + 2 + 1  # two excitation phases, four WET, two refocusing, one edit
    assert {row[4] for row in rows} == {"0"}


@pytest.mark.parametrize("form", FORMATS)
def test_rasters_and_signature_stand_in_the_file(files, form):
    text = files[form].read_text()
    for line in ("AdcRasterTime 1e-07", "BlockDurationRaster 1e-05", "GradientRasterTime 1e-05"):
        assert re.search(rf"^{line} *$", text, re.MULTILINE)
    body, _, signature = text.partition("\n[SIGNATURE]")
    assert re.search(rf"Hash {hashlib.md5(body.encode()).hexdigest()}", signature)
    assert text.isascii()


def test_both_formats_play_the_same(files):
    one, other = (shots(read_seq(files[form])) for form in FORMATS)
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        assert a.labels == b.labels
        assert a.start_s == pytest.approx(b.start_s, abs=1e-9)
        assert a.readout.phase_rad == pytest.approx(b.readout.phase_rad, abs=1e-5)
        for x, y in zip(a.timeline.intervals, b.timeline.intervals, strict=True):
            assert x.dwell_s == pytest.approx(y.dwell_s, abs=1e-12)
            assert torch.allclose(x.b1_hz, y.b1_hz, atol=1e-4)
            assert torch.allclose(x.gradient_hz_per_m, y.gradient_hz_per_m, atol=1e-2)


@pytest.mark.parametrize("form", FORMATS)
def test_pypulseq_reads_it_with_clean_timing(files, form):
    sequence = pp.Sequence(system=pulseq_system(SCANNER, F0_HZ))
    sequence.read(str(files[form]))
    clean, problems = sequence.check_timing()
    assert clean, problems


def test_the_designed_waveform_survives_to_six_digits(files):
    """Not rescaled, not conjugated, not reversed: against the samples that were asked for."""
    pulse = random_pulse()
    sequence = pp.Sequence(system=pulseq_system(SCANNER, F0_HZ))
    sequence.read(str(files["1.5.0"]))
    played = next(
        rf
        for number in sequence.block_events
        if (rf := sequence.get_block(number).rf) is not None and rf.use == "preparation"
    )
    wanted = np.repeat(pulse.b1_hz.numpy(), 20)
    assert np.abs(played.signal - wanted).max() < 2e-5 * pulse.peak_hz
    assert played.freq_offset == pytest.approx(pulse.carrier_offset_hz, abs=1e-3)
    # exp(i (2 pi f t + phase)) is real and positive in the middle of the pulse.
    middle = 2 * np.pi * played.freq_offset * (wanted.size * 0.5e-6) + played.phase_offset
    assert np.exp(1j * middle) == pytest.approx(1, abs=1e-4)


def test_two_builds_give_the_same_bytes(files, tmp_path):
    again = write(tmp_path / "1.5.0.seq", build(random_pulse()))
    assert again.read_bytes() == files["1.5.0"].read_bytes()


def test_shapes_are_shared_between_averages(tmp_path):
    counts = []
    for averages in (2, 12):
        text = write(tmp_path / f"{averages}.seq", build(random_pulse(), averages=averages)).read_text()
        counts.append((text.lower().count("shape_id"), len(section(text, "RF")), len(section(text, "TRAP"))))
    assert counts[0] == counts[1]


def test_rf_above_the_limit_is_refused_before_anything_is_written(built, tmp_path):
    weak = replace(SCANNER, b1_max_t=5e-6)
    with pytest.raises(HardwareLimitError, match=r"out\.seq was not written: pulse '.*' peaks at .* allows 212\.9 Hz"):
        write(tmp_path / "out.seq", built, scanner=weak)
    with pytest.raises(HardwareLimitError, match=r"Pulse edit peaks at 1200 Hz"):
        build(random_pulse(1200.0))
    assert list(tmp_path.iterdir()) == []


def test_a_definition_that_interpreters_cannot_read_is_refused(built, tmp_path):
    for name in ("Pr\u00e9ss", "two\nlines"):
        with pytest.raises(InputError, match="outside printable ASCII"):
            write(tmp_path / "out.seq", replace(built, definitions={"Name": name}))
    assert list(tmp_path.iterdir()) == []


def test_a_bad_timing_is_refused(built, tmp_path):
    with pytest.raises(VerificationError, match=r"would not play the blocks as they are: .*dead time 200 us"):
        write(tmp_path / "out.seq", built, scanner=replace(SCANNER, rf_dead_time_s=2e-4))
    with pytest.raises(VerificationError, match=r"make block \d+ [\d.]+ ms long instead of [\d.]+ ms: it is too short"):
        write(tmp_path / "out.seq", built, scanner=replace(SCANNER, rf_ringdown_s=5e-4))
    with pytest.raises(VerificationError, match=r"PyPulseq's timing check found \d+ problems.*Nothing was written"):
        write(tmp_path / "out.seq", built, scanner=replace(SCANNER, gradient_raster_s=3e-6))
    assert list(tmp_path.iterdir()) == []


def _full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(built, tmp_path, monkeypatch):
    path = tmp_path / "out.seq"
    path.write_text("an older file")
    genuine = Path.write_text

    def half(self, text, *args, **kwargs):
        if self.parent == tmp_path:
            genuine(self, text[: len(text) // 2], *args, **kwargs)
            _full()
        return genuine(self, text, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(InputError, match=r"No space left on device\. Nothing was left behind"):
        write(path, built)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.seq"]
    assert path.read_text() == "an older file"


def test_a_full_scratch_folder_is_named(built, tmp_path, monkeypatch):
    monkeypatch.setattr(pp.Sequence, "write", _full)
    with pytest.raises(InputError, match="No space left on device, in the folder for temporary files"):
        write(tmp_path / "out.seq", built)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.98])
def test_half_a_file_from_pypulseq_is_refused(built, tmp_path, monkeypatch, part):
    genuine = pp.Sequence.write

    def half(self, name, **kwargs):
        genuine(self, name, **kwargs)
        text = Path(name).read_text()
        Path(name).write_text(text[: int(part * len(text))])

    monkeypatch.setattr(pp.Sequence, "write", half)
    with pytest.raises(VerificationError, match=r"PyPulseq wrote \d+ of \d+ blocks.*Nothing was written"):
        write(tmp_path / "out.seq", built)
    assert list(tmp_path.iterdir()) == []


def test_a_lost_block_is_noticed(built, tmp_path, monkeypatch):
    genuine = pp.Sequence.add_block
    calls = []

    def lossy(self, *events):
        calls.append(1)
        if len(calls) != len(built.blocks):
            genuine(self, *events)

    monkeypatch.setattr(pp.Sequence, "add_block", lossy)
    with pytest.raises(VerificationError, match=r"PyPulseq wrote \d+ of \d+ blocks"):
        write_seq(built.blocks, tmp_path / "out.seq", scanner=SCANNER, spectrometer_frequency_hz=F0_HZ, definitions={})
