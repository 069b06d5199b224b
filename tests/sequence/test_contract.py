"""The contract, run on every sequence that is installed here, and shown to fail on sequences that break it."""

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path

import numpy as np
import pypulseq as pp
import pytest
import torch
from click.testing import CliRunner
from press_files import random_pulse

from seqgen import library
from seqgen.cli import main
from seqgen.errors import HardwareLimitError, InputError, SeqgenError
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Adc, Block, SampledGradient
from seqgen.seqfile.writer import pulseq_system, write_seq
from seqgen.sequence import contract
from seqgen.sequence.blocks import lobe, nonselective
from seqgen.sequence.contract import check_sequence, failures, sensible_params
from seqgen.sequence.plugins import BuildContext, Built, editing_places, find_sequence, sequence_names

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = ROOT / "protocols" / "phantom_glu_gln_3t.yaml"
FREQUENCY_HZ = {"siemens_prisma_3t": 123.2e6, "siemens_skyra_3t": 123.2e6, "ge_premier_3t": 127.7e6}
PLACES = [
    ("siemens_prisma_3t", "plain"),
    ("siemens_skyra_3t", "plain"),
    ("siemens_prisma_3t", "edited"),
    ("ge_premier_3t", "edited"),
]
SHORT = {"averages": 4, "dummy_scans": 1, "water_reference_averages": 2, "adc_samples": 512}
LOCALISED = ("press", "mega_press", "steam", "slaser", "isis_press")
NOT_APPLICABLE = {name: set() for name in LOCALISED} | {"example_spin_echo": {"refuses a voxel too thin"}}
"""Checks that a sequence known here has no parameter for. Any other one may have such, but none in silence: printed."""


def place(scanner, kind="plain"):
    return BuildContext(
        scanner=library.scanner(scanner),
        spectrometer_frequency_hz=FREQUENCY_HZ[scanner],
        water_shift_ppm=4.8,
        editing_pulse=random_pulse() if kind == "edited" else None,
    )


def short_params(spec, context):
    """Sensible parameters, few shots."""
    known = {name: value for name, value in SHORT.items() if name in spec.Params.__dataclass_fields__}
    return sensible_params(spec, context, **known)


# --- Every sequence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scanner", "kind"), PLACES)
@pytest.mark.parametrize("name", sequence_names())
def test_every_sequence_keeps_the_contract(name, scanner, kind):
    spec = find_sequence(name)
    context = place(scanner, kind if editing_places(spec) else "plain")
    findings = check_sequence(spec, short_params(spec, context), context)
    assert failures(findings) == []
    skipped = {finding.check: finding.note for finding in findings if finding.status == "not applicable"}
    print(name, "not applicable:", skipped)
    assert set(skipped) == NOT_APPLICABLE.get(name, set(skipped))
    assert len(findings) == 15


@pytest.mark.parametrize("name", ["steam", "slaser"])
def test_a_sequence_without_place_for_an_editing_pulse_refuses_one(name):
    spec, context = find_sequence(name), place("siemens_prisma_3t")
    params = short_params(spec, context)
    assert editing_places(spec) == ()
    with pytest.raises(InputError, match=f"{name} has no place for an editing pulse"):
        spec.build(params, place("siemens_prisma_3t", "edited"))


@pytest.mark.parametrize(
    "changes",
    [
        {"voxel_rotation_rad": (0.3, -0.5, 0.7), "voxel_position_m": (0.03, -0.04, 0.05)},
        {"water_suppression": "none", "dummy_scans": 0, "water_reference_averages": 0},
    ],
)
def test_press_keeps_the_contract_turned_and_bare(changes):
    spec, context = find_sequence("press"), place("siemens_prisma_3t")
    assert failures(check_sequence(spec, replace(short_params(spec, context), **changes), context)) == []


@pytest.mark.parametrize("form", contract.FORMATS)
@pytest.mark.parametrize("name", sequence_names())
def test_pypulseq_reads_block_by_block_what_was_built(name, form, tmp_path):
    spec = find_sequence(name)
    edited = "edited" if editing_places(spec) else "plain"
    for scanner, kind in (("siemens_prisma_3t", edited), ("ge_premier_3t", "plain")):
        context = place(scanner, kind)
        built = spec.build(short_params(spec, context), context)
        path = written(tmp_path / f"{scanner}.seq", built, context, form)
        assert pypulseq_differences(path, built.blocks, context, form) == []


def written(path, built, context, form="1.5.0"):
    write_seq(
        built.blocks,
        path,
        scanner=context.scanner,
        spectrometer_frequency_hz=context.spectrometer_frequency_hz,
        definitions=built.definitions,
        seq_format=form,
        shot_starts=built.shot_starts,
    )
    return path


def pypulseq_differences(path, blocks, context, form):
    """What PyPulseq reads differently from what was built, by its own decoding of every block."""
    sequence = pp.Sequence(system=pulseq_system(context.scanner, context.spectrometer_frequency_hz))
    sequence.read(str(path))
    clean, problems = sequence.check_timing()
    found = [] if clean else [f"timing: {problems[0]}"]
    if len(sequence.block_events) != len(blocks):
        return [*found, f"{len(sequence.block_events)} blocks"]
    labels, wanted = {}, {}
    seen = set()
    for number, block in zip(sequence.block_events, blocks, strict=True):
        read = sequence.get_block(number)
        labels |= {label.label: label.value for label in (getattr(read, "label", None) or {}).values()}
        labels.pop("TRID", None)  # the segment of GE's interpreter, set by the writer
        wanted |= block.labels
        if labels != wanted:
            found.append(f"block {number}: labels {labels}, not {wanted}")
        if (id(block), tuple(sequence.block_events[number])) not in seen:
            seen.add((id(block), tuple(sequence.block_events[number])))
            found += [f"block {number}: {what}" for what in _block_differences(block, read, with_use=form == "1.5.0")]
    return found


def _block_differences(block, read, *, with_use):
    if read.block_duration != pytest.approx(block.duration_s, abs=1e-9):
        yield "duration"
    if (block.rf is None) != (read.rf is None) or (block.adc is None) != (read.adc is None):
        yield "events"
        return
    if block.rf is not None:
        # What turns the spins at each sample, frequency and phase included, against the phase at the centre asked for.
        rf = block.rf
        t_s = (np.arange(rf.b1_hz.shape[0]) + 0.5) * rf.raster_s
        played = read.rf.signal * np.exp(1j * (read.rf.phase_offset + 2 * np.pi * read.rf.freq_offset * t_s))
        asked = rf.b1_hz.numpy() * np.exp(1j * (rf.phase_rad + 2 * np.pi * rf.frequency_hz * (t_s - rf.centre_s)))
        if np.abs(played - asked).max() > 1e-3 * np.abs(asked).max():
            yield "RF"
        if read.rf.delay != pytest.approx(rf.delay_s, abs=1e-9) or (with_use and read.rf.use != rf.use):
            yield "RF delay or use"
    for lobe_, gradient in zip(block.gradients, (read.gx, read.gy, read.gz), strict=True):
        played = None if lobe_ is None or lobe_.peak_hz_per_m == 0 else lobe_
        if (played is None) != (gradient is None):
            yield "gradient"
        elif isinstance(played, SampledGradient):
            if gradient.delay != pytest.approx(played.delay_s, abs=1e-9):
                yield "gradient times"
            if np.abs(gradient.waveform - played.sample_hz_per_m).max() > 1e-5 * played.peak_hz_per_m:
                yield "gradient samples"
        elif played is not None:
            times = gradient.delay, gradient.rise_time, gradient.flat_time, gradient.fall_time
            if times != pytest.approx((played.delay_s, played.rise_s, played.flat_s, played.fall_s), abs=1e-9):
                yield "gradient times"
            if gradient.area != pytest.approx(played.moment_per_m, rel=1e-5):
                yield "gradient moment"
    if block.adc is not None:
        adc = block.adc
        if read.adc.num_samples != adc.n_samples:
            yield "samples"
        if (read.adc.dwell, read.adc.delay) != pytest.approx((adc.dwell_s, adc.delay_s), abs=1e-9):
            yield "readout times"
        if np.exp(1j * read.adc.phase_offset) != pytest.approx(np.exp(1j * adc.phase_rad), abs=1e-5):
            yield "readout phase"


@pytest.mark.parametrize(
    ("pattern", "replacement", "exit_code", "text"),
    [
        (r"voxel_size_mm: \[20, 20, 20\]", "voxel_size_mm: [20, 0.02, 20]", 2, "a voxel of at least"),
        (r"tr_ms: 2000 ", "tr_ms: 400 ", 2, "tr_s must be at least"),
        (r"averages: 32 ", "averages: 31 ", 2, "averages must be a multiple of 16"),
        (r"te1_ms: 41 ", "te1_ms: 9 ", 2, "te1_s must be at least"),
        (r"adc_samples: 2048 ", "adc_samples: 2046 ", 2, "adc_samples must be a multiple of 4"),
    ],
)
def test_a_build_that_is_refused_writes_nothing(pattern, replacement, exit_code, text, tmp_path):
    protocol, count = re.subn(rf"(?m)^(  ){pattern}", rf"\1{replacement}", PROTOCOL.read_text())
    assert count == 1
    (tmp_path / "study.yaml").write_text(protocol)
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["build", str(tmp_path / "study.yaml"), "-o", str(out)])
    assert result.exit_code == exit_code, result.output
    assert text in result.output
    assert not out.exists() or not list(out.iterdir())


# --- The contract can fail -------------------------------------------------------------------------------------------


def _example():
    """The sequence of the third-party package, loaded by path: it need not be installed here."""
    path = ROOT / "tests" / "plugin_package" / "example_spin_echo.py"
    spec = importlib.util.spec_from_file_location("example_spin_echo_by_path", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.SPIN_ECHO


EXAMPLE = _example()
CONTEXT = place("siemens_prisma_3t")


class Changed:
    """The example with some of its members replaced."""

    name = "changed"
    Params = EXAMPLE.Params

    def build(self, params, context):
        return EXAMPLE.build(params, context)

    def minimum_te_s(self, params, context):
        return EXAMPLE.minimum_te_s(params, context)


def failed(spec, params=None, context=CONTEXT):
    findings = check_sequence(spec, EXAMPLE.Params() if params is None else params, context)
    return {finding.check: finding.note for finding in findings if finding.status == "failed"}


def with_blocks(change):
    """A sequence whose blocks are changed after they are built."""

    class Broken(Changed):
        def build(self, params, context):
            built = EXAMPLE.build(params, context)
            return replace(built, blocks=tuple(map(change, built.blocks)))

    return Broken()


def with_parameters(change):
    """A sequence that corrects impossible parameters in silence instead of refusing them."""

    class Lenient(Changed):
        def build(self, params, context):
            built = EXAMPLE.build(change(params, context), context)
            return replace(built, definitions=built.definitions | {"TE": params.te_s})

    return Lenient()


def with_error(change):
    """A sequence whose refusals are replaced by another error."""

    class Curt(Changed):
        def build(self, params, context):
            try:
                return EXAMPLE.build(params, context)
            except SeqgenError as error:
                raise change(error) from error

    return Curt()


def test_the_example_itself_is_in_order():
    assert failed(EXAMPLE) == failed(Changed()) == {}


def test_total_duration_of_a_long_sequence_is_exact(tmp_path):
    """1024 averages at a TR that is no round number: nine digits are written, and have to be enough."""
    built = EXAMPLE.build(EXAMPLE.Params(averages=1024, tr_s=1.87613), CONTEXT)
    text = written(tmp_path / "long.seq", built, CONTEXT).read_text()
    total_s = float(re.search(r"^TotalDuration (\S+)", text, re.MULTILINE).group(1))
    assert total_s == pytest.approx(1024 * 1.87613, abs=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: replace(b, duration_s=b.duration_s + 1e-5),
        lambda b: b.rf and replace(b, rf=replace(b.rf, phase_rad=b.rf.phase_rad + 0.01)),
        lambda b: b.rf and replace(b, rf=replace(b.rf, delay_s=b.rf.delay_s - 1e-6)),
        lambda b: b.rf and replace(b, rf=replace(b.rf, use="preparation")),
        lambda b: any(b.gradients) and replace(b, gradients=b.gradients[::-1]),
        lambda b: any(b.gradients) and steeper(b, 1.0001),
        lambda b: b.adc and replace(b, adc=replace(b.adc, phase_rad=b.adc.phase_rad + 0.01)),
        lambda b: b.adc and replace(b, adc=replace(b.adc, delay_s=b.adc.delay_s + 1e-6)),
        lambda b: b.adc and replace(b, labels={"AVG": 0, "REF": 1}),
    ],
)
def test_the_comparison_with_pypulseq_can_fail(change, tmp_path):
    built = EXAMPLE.build(EXAMPLE.Params(), CONTEXT)
    path = written(tmp_path / "example.seq", built, CONTEXT)
    other = [change(block) or block for block in built.blocks]
    assert pypulseq_differences(path, built.blocks, CONTEXT, "1.5.0") == []
    assert pypulseq_differences(path, other, CONTEXT, "1.5.0") != []


def test_undocumented_or_unitless_parameters_are_found():
    @dataclass(frozen=True, kw_only=True)
    class Params(EXAMPLE.Params):
        """More parameters."""

        delay: float = 1.0
        """A delay in who knows what."""
        spare_s: float = 1.0

    class Broken(Changed):
        pass

    Broken.Params = Params
    note = failed(Broken(), Params())["parameters have docstrings and units"]
    assert "delay is a real number, but its name ends in no SI unit" in note
    assert "spare_s has no docstring" in note
    Broken.Params = make_dataclass("Thawed", [("te_s", float, 0.03)])
    note = failed(Broken())["parameters have docstrings and units"]
    assert "Thawed is not frozen" in note
    assert "te_s has no docstring" in note


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("readouts suit the scanner", lambda b: replace(b, adc=replace(b.adc, n_samples=254))),
        ("labels AVG and REF", lambda b: replace(b, labels={"AVG": b.labels["AVG"]})),
        ("labels AVG and REF", lambda b: replace(b, labels={"AVG": 2 * b.labels["AVG"], "REF": 0})),
        ("labels AVG and REF", lambda b: replace(b, labels={"AVG": b.labels["AVG"], "REF": 2})),
        ("labels AVG and REF", lambda b: replace(b, labels=b.labels | {"REF": int(b.labels["AVG"] == 3)})),
    ],
)
def test_wrong_readouts_and_labels_are_found(check, change):
    assert check in failed(with_blocks(lambda block: block if block.adc is None else change(block)))


def test_a_wrong_echo_time_is_found():
    """The wait before the refocusing pulse is 20 us too long."""
    longer = with_blocks(
        lambda b: (
            replace(b, duration_s=round(b.duration_s + 2e-5, 9))
            if b.rf is None and b.adc is None and b.gradients == (None,) * 3 and b.duration_s < 0.1
            else b
        )
    )
    assert "TE measured from RF centres is 30.04 ms" in failed(longer)["echo time from RF centres"]


@dataclass(frozen=True, kw_only=True)
class StimulatedParams:
    te_s: float = 0.02
    """Echo time, twice the time from the first pulse to the second, s."""
    tm_s: float = 0.015
    """Mixing time, from the second pulse to the third, s."""


class Stimulated:
    """Three hard 90-degree pulses; what is stored along z in the mixing time comes back as the echo."""

    name = "stimulated"
    Params = StimulatedParams

    def build(self, params, context):
        hard = RFPulse(b1_hz=torch.full((50,), 500.0, dtype=torch.complex128), dwell_s=1e-5, name="90")
        timed = nonselective(hard, phase_rad=0.0, carrier_offset_hz=0.0, use="excitation", scanner=context.scanner)
        pulse = timed.block

        def gap(length_s, moment_per_m):
            crusher = lobe(np.array([0.0, 0.0, moment_per_m]), context.scanner, duration_s=2e-3)
            return [crusher, Block(duration_s=round(length_s - crusher.duration_s - pulse.duration_s, 9))]

        if params.te_s < 0.0056:
            raise InputError(f"te_s must be at least 0.0056 s, but is {params.te_s} s. Raise te_s.")
        adc = Adc(n_samples=64, dwell_s=2.5e-4, delay_s=1e-3)
        blocks = [pulse, *gap(params.te_s / 2, 1000.0), pulse, *gap(params.tm_s, 2500.0), pulse, gap(0.01, 1000.0)[0]]
        blocks += [Block(duration_s=0.02, adc=adc, labels={"AVG": 0, "REF": 0})]
        return Built(blocks=tuple(blocks), definitions={"Name": self.name, "TE": params.te_s})

    def minimum_te_s(self, params, context):
        return 0.0056, 0.0


def test_the_mixing_time_of_a_stimulated_echo_is_no_echo_time():
    findings = check_sequence(Stimulated(), StimulatedParams(), CONTEXT)
    assert failures(findings) == []
    assert {finding.check for finding in findings if finding.status == "not applicable"} == {
        "repetition time",
        "refuses a voxel too thin",
        "refuses a readout longer than TR",
        "refuses part of a phase cycle",
    }


def test_a_free_induction_decay_is_no_echo():
    """Without its second and third pulse."""

    class Decay(Stimulated):
        def build(self, params, context):
            built = super().build(params, context)
            return replace(built, blocks=(built.blocks[0], built.blocks[-1]))

    assert "no echo is played" in failed(Decay(), StimulatedParams())["echo time from RF centres"]


def test_a_wrong_repetition_time_is_found():
    assert "repetition time" in failed(
        with_blocks(lambda b: replace(b, duration_s=b.duration_s + 1e-3) if b.duration_s > 0.8 else b)
    )


def steeper(block, factor):
    """The block with gradients times a factor, on the same ramps."""
    lobes = (g and replace(g, amplitude_hz_per_m=factor * g.amplitude_hz_per_m) for g in block.gradients)
    return replace(block, gradients=tuple(lobes))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda b: steeper(b, 1.2), "slew rate"),
        (lambda b: steeper(b, 8.0), "gradient"),
        (lambda b: (b.rf and replace(b, rf=replace(b.rf, b1_hz=3 * b.rf.b1_hz))) or b, "RF amplitude"),
    ],
)
def test_what_exceeds_the_scanner_is_found(change, what):
    note = failed(with_blocks(change))["builds, writes and reads"]
    assert re.search(rf"Block \d+ exceeds the {what} of siemens_prisma_3t", note)


def test_gradients_steeper_than_a_slow_scanner_allows_are_found():
    class Hasty(Changed):
        """Builds for the fast scanner it has in mind."""

        def build(self, params, context):
            return EXAMPLE.build(params, CONTEXT)

    refusal = failed(Hasty())
    assert "refuses slew beyond the scanner" not in refusal, "write_seq itself refuses, with limit and remedy"
    assert refusal == {}


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (
            "refuses TE below the minimum",
            lambda p, c: replace(p, te_s=max(p.te_s, EXAMPLE.minimum_te_s(p, c)[0])),
        ),
        ("refuses a readout longer than TR", lambda p, c: replace(p, tr_s=max(p.tr_s, 1.0))),
        ("refuses part of a phase cycle", lambda p, c: replace(p, averages=p.averages // 2 * 2)),
        (
            "refuses RF beyond the scanner",
            lambda p, c: p if c.scanner.b1_max_t > 1e-5 else replace(p, refocusing_duration_s=3.6e-3),
        ),
    ],
)
def test_a_sequence_that_corrects_instead_of_refusing_is_found(check, change):
    assert "is accepted" in failed(with_parameters(change))[check]


def test_a_minimum_that_does_not_build_is_found():
    class Optimist(Changed):
        def minimum_te_s(self, params, context):
            return EXAMPLE.minimum_te_s(params, context)[0] - 1e-3, 0.0

    assert "At the stated minimum" in failed(Optimist())["refuses TE below the minimum"]


def test_a_thin_voxel_that_is_accepted_is_found():
    @dataclass(frozen=True, kw_only=True)
    class Params(EXAMPLE.Params):
        voxel_size_m: tuple[float, float, float] = (0.02, 0.02, 0.02)
        """Voxel that is never looked at, m."""

    class Careless(Changed):
        pass

    Careless.Params = Params
    assert "along axis 3 is accepted" in failed(Careless(), Params())["refuses a voxel too thin"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda error: InputError("te_s is too short. Raise it."), "does not state the limit"),
        (lambda error: InputError(str(error).replace("te_s", "time")), "does not name te_s"),
        (lambda error: InputError(str(error).split(". ")[0] + "."), "names no remedy"),
        (lambda error: ValueError(str(error)), "raises ValueError"),
        (lambda error: ZeroDivisionError("oops"), "raises ZeroDivisionError"),
    ],
)
def test_a_refusal_without_limit_or_remedy_is_found(change, text):
    assert text in failed(with_error(change))["refuses TE below the minimum"]


def test_rf_refused_as_plain_input_is_found():
    plain = with_error(lambda error: InputError(str(error)) if isinstance(error, HardwareLimitError) else error)
    assert "not HardwareLimitError" in failed(plain)["refuses RF beyond the scanner"]


def test_bytes_that_change_from_build_to_build_are_found():
    class Restless(Changed):
        count = 0

        def build(self, params, context):
            self.count += 1
            built = EXAMPLE.build(params, context)
            return replace(built, definitions=built.definitions | {"Run": float(self.count)})

    assert "same bytes every time" in failed(Restless())


def test_a_sequence_that_does_not_build_is_one_finding():
    findings = check_sequence(EXAMPLE, EXAMPLE.Params(averages=3), CONTEXT)
    assert [(finding.check, finding.status) for finding in findings] == [("builds, writes and reads", "failed")]
    assert "averages must be a multiple of 2" in failures(findings)[0]


@pytest.mark.parametrize(
    ("pattern", "replacement", "check"),
    [
        (r"TotalDuration \S+", "TotalDuration 4.001", "builds, writes and reads"),
        (r"TotalDuration \S+ *\n", "", "signature and TotalDuration"),
        (r"\n\[SIGNATURE\][\s\S]*", "\n", "signature and TotalDuration"),
        (r"(?m)^( +2 +\d+ +0) +0 +0 +1( +0 +0)$", r"\1 1 0 0\2", "file holds what was built"),
        (r"(?m)^(\[ADC\]\n1 256 250000) \d+", r"\1 10", "file holds what was built"),
        (r"(?m)^(\[ADC\]\n1 256 250000) \d+", r"\1 9000000", "builds, writes and reads"),
        (r"(?m)^(\[RF\]\n1 +)416\.667", r"\g<1>416.7", "file holds what was built"),
    ],
)
def test_a_file_that_is_not_what_was_built_is_found(pattern, replacement, check, monkeypatch):
    """The writer corrupts its file, with a signature that fits unless it is the signature that goes."""

    def corrupt(blocks, path, **kwargs):
        write_seq(blocks, path, **kwargs)
        body, mark, signature = path.read_text().partition("\n[SIGNATURE]")
        text, count = re.subn(pattern, replacement, body + (mark + signature if "SIGNATURE" in pattern else ""))
        if path.name != "refused.seq":
            assert count == 1, pattern
        if "SIGNATURE" not in pattern:
            signature = re.sub(r"Hash \w+", f"Hash {hashlib.md5(text.encode()).hexdigest()}", signature)
            text += mark + signature
        path.write_text(text)

    monkeypatch.setattr(contract, "write_seq", corrupt)
    assert check in failed(EXAMPLE)


def test_a_refusal_that_leaves_a_file_is_found(monkeypatch):
    def untidy(blocks, path, **kwargs):
        path.write_text("half a file")
        write_seq(blocks, path, **kwargs)

    monkeypatch.setattr(contract, "write_seq", untidy)

    class Late(Changed):
        """Leaves the RF amplitude to the writer."""

        def build(self, params, context):
            generous = replace(context.scanner, b1_max_t=1.0)
            return EXAMPLE.build(params, replace(context, scanner=generous))

    assert "left refused.seq behind" in failed(Late())["refuses RF beyond the scanner"]


def test_a_parameter_the_contract_cannot_fill_is_named():
    @dataclass(frozen=True, kw_only=True)
    class Params:
        shots_of_espresso: int

    class Strange(Changed):
        pass

    Strange.Params = Params
    with pytest.raises(InputError, match="parameter shots_of_espresso without default"):
        sensible_params(Strange(), CONTEXT)


def test_sensible_echo_times_are_the_minimum():
    spec = find_sequence("press")
    params = sensible_params(spec, CONTEXT, te2_s=0.05)
    least = spec.minimum_te_s(params, CONTEXT)
    assert (params.te1_s, params.te2_s) == (least[0], 0.05)
