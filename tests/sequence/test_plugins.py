import sys

import pytest

from seqgen.errors import InputError
from seqgen.sequence.plugins import find_sequence, sequence_names

PLUGIN = '''
"""A third-party sequence: one non-selective pulse and a readout."""
import math
from dataclasses import dataclass
import numpy as np
import torch
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Adc, Block
from seqgen.sequence.blocks import nonselective
from seqgen.sequence.plugins import Built

@dataclass(frozen=True, kw_only=True)
class Params:
    flip_angle_rad: float = math.pi / 2
    adc_samples: int = 64

class PulseAcquire:
    name = "third_party"
    Params = Params

    def build(self, params, context):
        n = 500
        b1 = torch.full((n,), params.flip_angle_rad / (2 * math.pi * n * 1e-6), dtype=torch.complex128)
        pulse = RFPulse(b1_hz=b1, dwell_s=1e-6, name="hard")
        block = nonselective(
            pulse, phase_rad=0.0, carrier_offset_hz=0.0, use="excitation", scanner=context.scanner
        ).block
        adc = Adc(n_samples=params.adc_samples, dwell_s=2.5e-4, delay_s=1e-5)
        readout = Block(duration_s=round(params.adc_samples * 2.5e-4 + 2e-5, 9), adc=adc)
        return Built(blocks=(block, readout), definitions={"Name": "third_party"})

    def minimum_te_s(self, params, context):
        return 0.0, 0.0

SEQUENCE = PulseAcquire()
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with one entry point by a bare dist-info folder on the path."""

    def make(module, source, target="SEQUENCE", name="third_party"):
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[seqgen.sequences]\n{name} = {module}:{target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return make


def test_press_is_found_through_its_entry_point():
    assert "press" in sequence_names()
    assert find_sequence("press").name == "press"


def test_a_third_party_sequence_builds_writes_and_reads(install, tmp_path):
    from press_files import SCANNER, context, write

    from seqgen.seqfile.reader import read_seq
    from seqgen.seqfile.shots import shots

    install("third_party_sequence", PLUGIN)
    assert {"press", "third_party"} <= set(sequence_names())
    spec = find_sequence("third_party")
    built = spec.build(spec.Params(), context())
    (shot,) = shots(read_seq(write(tmp_path / "third_party.seq", built, scanner=SCANNER)))
    assert shot.flip_angle_rad[0] == pytest.approx(1.5707963, rel=1e-5)
    assert shot.readout.n_samples == 64


def test_an_unknown_name_lists_what_is_installed(install):
    install("third_party_sequence", PLUGIN)
    with pytest.raises(InputError, match=r"Unknown sequence 'pres'; installed: .*press.*third_party.*Nearest: press"):
        find_sequence("pres")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("def broken(:\n", "SyntaxError"),
        ("VALUE = 1 / 'x'\nSEQUENCE = 3\n", "TypeError"),
        ("OTHER = 1\n", "AttributeError"),
    ],
)
def test_a_plugin_that_fails_to_import_is_named(install, source, error):
    install("broken_plugin", source, name="broken")
    with pytest.raises(
        InputError, match=rf"Sequence 'broken' \(broken_plugin:SEQUENCE of package broken_plugin 1\.2\.3\).*{error}"
    ):
        find_sequence("broken")


def test_an_object_that_is_no_sequence_is_refused(install):
    install("empty_plugin", "SEQUENCE = object()\n", name="empty")
    with pytest.raises(InputError, match=r"'empty' .* is not a sequence: it has no name, Params, build, minimum_te_s"):
        find_sequence("empty")
