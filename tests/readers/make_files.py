"""Write the files that tests/readers gives to other people's readers: PRESS plain and designed, by the command line.

    .venv/bin/python tests/readers/make_files.py FOLDER

Into FOLDER/siemens and FOLDER/ge: press.seq, press_edited.seq and their 1.4.1 forms (_141), the scanner's limits as
pulserver reads them (limits.txt), and what the protocol asked for (expected.json).
"""

import json
import re
import sys
from pathlib import Path

from seqgen import library
from seqgen.cli import main

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = {"siemens": "phantom_glu_gln_3t.yaml", "ge": "phantom_glu_gln_3t_ge.yaml"}
SHOTS = {"averages": 4, "dummy_scans": 2, "water_reference_averages": 2}
NUMBERS = ("te1_ms", "te2_ms", "tr_ms", "adc_samples", "adc_dwell_us", "spectrometer_frequency_mhz")
CHANGES = {
    # A design in seconds: its quality is not what is tested here.
    r"^    (NAA|Cho|mI|Lac): .*\n": "",
    r"b0_offsets_hz: .*": "b0_offsets_hz: [0]",
    r"b1_scales: .*": "b1_scales: [1.0]",
    r"^  starts: .*": "  starts: 1",
    r"^  iterations: .*": "  iterations: 4",
    # Few shots of a turned voxel off the isocentre: every slice has a carrier of its own and gradients on all axes.
    r"voxel_position_mm: .*": "voxel_position_mm: [30, -40, 50]\n  voxel_rotation_deg: [15, -20, 30]",
    **{rf"^  {name}: .*": f"  {name}: {count}" for name, count in SHOTS.items()},
}


def write(vendor: str, folder: Path) -> None:
    """Write the files of one vendor."""
    folder.mkdir(parents=True)
    text = (ROOT / "protocols" / PROTOCOLS[vendor]).read_text()
    for pattern, replacement in CHANGES.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if not count:
            sys.exit(f"{PROTOCOLS[vendor]}: nothing matches {pattern!r}; adapt {__file__}.")
    protocol, design = folder / "protocol.yaml", folder / "design.json"
    protocol.write_text(text)
    for command in (
        ["design", protocol, "-o", design],
        ["build", protocol, "-o", folder],
        ["build", protocol, "--design", design, "-o", folder],
    ):
        main([str(word) for word in command], standalone_mode=False)

    number = {key: float(re.search(rf"^ *{key}: (\S+)", text, re.MULTILINE).group(1)) for key in NUMBERS}
    designed = json.loads(design.read_text())
    expected = {
        "te_s": {
            "press": 1e-3 * (number["te1_ms"] + number["te2_ms"]),
            "press_edited": designed["te1_s"] + designed["te2_s"],
        },
        "n_readouts": SHOTS["averages"] + SHOTS["water_reference_averages"],
        "n_references": SHOTS["water_reference_averages"],
        "adc_samples": int(number["adc_samples"]),
        "adc_dwell_s": 1e-6 * number["adc_dwell_us"],
        "tr_s": 1e-3 * number["tr_ms"],
        "total_s": 1e-3 * number["tr_ms"] * sum(SHOTS.values()),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=2))
    scanner = library.scanner(re.search(r"^scanner: (\S+)", text, re.MULTILINE).group(1))
    limits = {
        "B0": number["spectrometer_frequency_mhz"] / 42.577478518,
        "max_grad": scanner.max_gradient_hz_per_m,
        "grad_unit": "Hz/m",
        "max_slew": scanner.max_slew_hz_per_m_per_s,
        "slew_unit": "Hz/m/s",
        "rf_dead_time": scanner.rf_dead_time_s,
        "rf_ringdown_time": scanner.rf_ringdown_s,
        "adc_dead_time": scanner.adc_dead_time_s,
        "rf_raster_time": scanner.rf_raster_s,
        "grad_raster_time": scanner.gradient_raster_s,
        "adc_raster_time": scanner.adc_raster_s,
        "block_duration_raster": scanner.block_raster_s,
    }
    lines = [f"{name}: {value}" for name, value in limits.items()]
    (folder / "limits.txt").write_text("\n".join(["[Limits]", *lines, "[Limits End]", ""]))


if __name__ == "__main__":
    for name in PROTOCOLS:
        write(name, Path(sys.argv[1]) / name)
