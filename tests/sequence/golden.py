"""The table of reference files, tests/sequence/golden_hashes.yaml: one row per built-in sequence and format.

    .venv/bin/python tests/sequence/golden.py            # make the table anew, after a change that is meant
    .venv/bin/python tests/sequence/golden.py --print    # the hashes of this process, as JSON

Every row holds the SHA-256 of the file's bytes, and numbers of what it plays that any machine gives to five digits. The
hashes hold for the versions and the kind of processor that the table names: another libm or FFT turns last digits.
"""

import json
import math
import platform
import sys
import tempfile
from hashlib import sha256
from importlib.metadata import entry_points, version
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from seqgen import library
from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import GROUP, BuildContext, find_sequence

TABLE = Path(__file__).with_name("golden_hashes.yaml")
FORMATS = ("1.5.0", "1.4.1")
KINDS = ("plain", "edited")
PACKAGES = ("pypulseq", "numpy", "scipy", "torch")
PRISMA = "siemens_prisma_3t"
F0_HZ, WATER_PPM = 123.2e6, 4.7


def built_in_sequences():
    """Names of the sequences that come with seqgen."""
    return sorted(point.name for point in entry_points(group=GROUP) if point.module.startswith("seqgen_sequences."))


def made_with():
    """What the bytes depend on besides seqgen."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{package: version(package) for package in PACKAGES},
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def editing_pulse():
    """A Gaussian with a frequency sweep, from closed forms."""
    t_s = (torch.arange(1000, dtype=torch.float64) + 0.5) * 2e-5 - 0.01
    amplitude_hz = 120.0 * torch.exp(-((t_s / 0.004) ** 2))
    return RFPulse(
        b1_hz=torch.polar(amplitude_hz, 2 * math.pi * 4e3 * t_s**2), dwell_s=2e-5, carrier_offset_hz=-301.0, name="edit"
    )


def rows(name, kind, *, plays=True):
    """The rows of a sequence's reference file in both formats: hash and what it plays, or that it refuses the kind."""
    spec = find_sequence(name)
    context = BuildContext(
        scanner=library.scanner(PRISMA),
        spectrometer_frequency_hz=F0_HZ,
        water_shift_ppm=WATER_PPM,
        editing_pulse=editing_pulse() if kind == "edited" else None,
    )
    try:
        built = spec.build(sensible_params(spec, context), context)
    except InputError:
        return {form: {"refused": True} for form in FORMATS}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMATS:
            path = Path(folder) / f"{form}.seq"
            write_seq(
                built.blocks,
                path,
                scanner=context.scanner,
                spectrometer_frequency_hz=F0_HZ,
                definitions=built.definitions,
                seq_format=form,
                shot_starts=built.shot_starts,
            )
            found[form] = {"sha256": sha256(path.read_bytes()).hexdigest()} | (
                {"plays": numbers(path)} if plays else {}
            )
    return found


def numbers(path):
    """What a file plays, as sums over its blocks and the same weighted by the block's number: order counts too.

    Labels are written exactly, so their hash is the same everywhere.
    """
    seq = read_seq(path)
    weights = np.arange(1, seq.n_blocks + 1) / seq.n_blocks
    columns = {
        "duration_s": [block.duration_s for block in seq.blocks],
        "rf_energy_hz2_s": [_energy(block.rf) for block in seq.blocks],
        "rf_peak_hz": [0.0 if block.rf is None else float(np.abs(block.rf.shape_hz).max()) for block in seq.blocks],
        "rf_carrier_hz": [0.0 if block.rf is None else block.rf.frequency_hz for block in seq.blocks],
        "rf_phase_real": [_turn(block.rf).real for block in seq.blocks],
        "rf_phase_imaginary": [_turn(block.rf).imag for block in seq.blocks],
        **{
            f"gradient_{axis}_per_m": [_moment(block.gradients[k]) for block in seq.blocks]
            for k, axis in enumerate("xyz")
        },
        "receiver_real": [0.0 if b.adc is None else math.cos(b.adc.phase_rad) for b in seq.blocks],
        "receiver_imaginary": [0.0 if b.adc is None else math.sin(b.adc.phase_rad) for b in seq.blocks],
        "readout_s": [0.0 if b.adc is None else b.adc.delay_s + b.adc.duration_s for b in seq.blocks],
    }
    labels = json.dumps([shot.labels for shot in shots(seq)], sort_keys=True)
    return {
        "n_blocks": seq.n_blocks,
        "n_readouts": sum(block.adc is not None for block in seq.blocks),
        "labels_sha256": sha256(labels.encode()).hexdigest(),
        **{
            name: [_digits(sum(map(abs, values))), _digits(float(weights @ values))] for name, values in columns.items()
        },
    }


def _energy(rf):
    """Energy of a pulse, Hz^2 s."""
    return 0.0 if rf is None else float((np.abs(rf.shape_hz) ** 2).sum()) * rf.dwell_s


def _turn(rf):
    """The phase of a pulse at its centre as a complex number."""
    if rf is None:
        return 0j
    return complex(np.exp(1j * (rf.phase_rad + 2 * math.pi * rf.frequency_hz * rf.centre_s)))


def _moment(gradient):
    """Moment of a gradient, cycles/m."""
    return 0.0 if gradient is None else float(np.trapezoid(gradient.value_hz_per_m, gradient.time_s))


def _digits(value):
    """Eight digits: more than are compared."""
    return float(f"{value:.8g}")


def hashes(forms):
    """The hashes of rows by format, None where the sequence refuses."""
    return {form: row.get("sha256") for form, row in forms.items()}


def main():
    """Write the table, or print the hashes."""
    plays = "--print" not in sys.argv
    found = {name: {kind: rows(name, kind, plays=plays) for kind in KINDS} for name in built_in_sequences()}
    if not plays:
        json.dump([[name, kind, hashes(forms)] for name in found for kind, forms in found[name].items()], sys.stdout)
        return
    yaml = YAML()
    yaml.width = 200
    yaml.default_flow_style = None
    with TABLE.open("w", encoding="utf-8") as file:
        file.write(
            "# Made by tests/sequence/golden.py. Make it anew after a change of what a sequence plays that is meant.\n"
        )
        yaml.dump({"made_with": made_with(), "sequences": found}, file)
    sys.stdout.write(f"{TABLE}: {len(found)} sequences ({', '.join(found)})\n")


if __name__ == "__main__":
    main()
