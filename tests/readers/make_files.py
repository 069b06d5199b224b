"""Write the files that tests/readers gives to other people's readers: every built-in sequence, by the command line.

    .venv/bin/python tests/readers/make_files.py FOLDER

Into FOLDER/siemens and FOLDER/ge: a file for every name of SCANS and DESIGNED, their 1.4.1 forms (_141), the scanner's
limits as pulserver reads them (limits.txt), and what the protocols asked for (expected.json).
"""

import json
import math
import re
import sys
from pathlib import Path

from seqgen import library
from seqgen.cli import main
from seqgen.scanner import Scanner

ROOT = Path(__file__).resolve().parents[2]
VENDORS = {
    "siemens": ("siemens_prisma_3t", 123.2, "phantom_glu_gln_3t.yaml"),
    "ge": ("ge_premier_3t", 127.7, "phantom_glu_gln_3t_ge.yaml"),
}
"""Scanner, spectrometer frequency in MHz, and the protocol of PRESS, which has a design."""
# A design in seconds: its quality is not what is tested here.
DESIGN = {
    r"    (NAA|Cho|mI|Lac): .*\n": "",
    r"  b0_offsets_hz: .*": "  b0_offsets_hz: [0]",
    r"  b1_scales: .*": "  b1_scales: [1.0]",
    r"  starts: .*": "  starts: 1",
    r"  iterations: .*": "  iterations: 4",
}
DIFFERENCE = "\n  combine: difference"
DESIGNED = {
    "press_edited": {},
    "press_edited_plain": {r"  place: .*": f"  place: echo_top\n  shots: [edited, plain]{DIFFERENCE}"},
    "press_edited_edited": {
        r"  place: .*": f"  place: [te1, te2]\n  shots: [edited, edited]{DIFFERENCE}",
        r"  duration_ms: .*": "  duration_ms: 12",
        r"  te1_ms: .*": "  te1_ms: 16",
        r"  te2_ms: .*": "  te2_ms: 66",
    },
}
"""PRESS with designed pulses, and what is changed in `design:`: one shot; ON and plain; ON and OFF, two pulses each."""
EDITED_AS = {0: "press", 1: "press_edited", 2: "mega_press"}
"""Train of a shot by its number of designed pulses: two stand where those of MEGA-PRESS do."""
# Few shots of a turned voxel off the isocentre: every slice has a carrier of its own and gradients on all axes.
VOXEL = {"voxel_position_mm": "[30, -40, 50]", "voxel_rotation_deg": "[15, -20, 30]"}
FEW = {"dummy_scans": 2, "water_reference_averages": 2, "noise_scans": 0, "adc_samples": 512} | VOXEL
SCANS = {
    "press": FEW | {"phase_cycle": "two_step", "averages": 4},
    "mega_press": FEW | {"phase_cycle": "two_step", "averages": 4, "water_suppression": "vapor"},
    "steam": FEW | {"phase_cycle": "eight_step", "averages": 8, "noise_scans": 2},
    "slaser": FEW
    | {
        "phase_cycle": "two_step",
        "averages": 4,
        "water_suppression": "wet",
        "outer_volume_suppression": "true",
        "water_reference_interval": 2,
    },
    "isis_press": FEW | {"phase_cycle": "exor_16", "averages": 32},
    "pulse_acquire": {
        "tr_ms": 1000,
        "averages": 8,
        "dummy_scans": 1,
        "phase_cycle": "cyclops",
        "carrier_ppm": 3.0,
        "adc_samples": 512,
    },
    "sign_check": {"tr_ms": 1000, "averages": 2, "dummy_scans": 2, "adc_samples": 512, "adc_dwell_us": 100},
}
"""What is changed in `sequence:` of each protocol: averages are one phase cycle, two of semi-LASER, pulse-acquire
and PRESS in one condition."""
STEPS = {"two_step": 2, "eight_step": 8, "exor_16": 16, "cyclops": 4}
WATER_PULSES = {"wet": 4, "vapor": 7}
N_SLABS = 6


def changed(text: str, changes: dict[str, str], name: str) -> str:
    """Return a protocol with lines replaced."""
    for pattern, replacement in changes.items():
        text, count = re.subn(rf"^{pattern}", replacement, text, flags=re.MULTILINE)
        if not count:
            sys.exit(f"{name}: nothing matches {pattern!r}; adapt {__file__}.")
    return text


def protocol_of(name: str, vendor: str) -> str:
    """Return the protocol of a scan."""
    scanner, frequency_mhz, designed = VENDORS[vendor]
    source = designed if name == "press" else f"scan_{name}_3t.yaml"
    text = (ROOT / "protocols" / source).read_text()
    head = {
        r"scanner: .*": f"scanner: {scanner}",
        r"spectrometer_frequency_mhz: .*": f"spectrometer_frequency_mhz: {frequency_mhz}",
    }
    text = changed(text, head | (DESIGN if name == "press" else {}), source)
    before, after = re.split(r"(?m)^  name: .*\n", text, maxsplit=1)
    for key in SCANS[name]:
        after = re.sub(rf"(?m)^  {key}: .*\n", "", after)
    stated = "".join(f"  {key}: {value}\n" for key, value in {"name": name, **SCANS[name]}.items())
    return before + stated + after


def expected(text: str, name: str, scanner: str) -> dict[str, object]:
    """Return what a protocol asks for."""

    def number(key: str) -> float:
        found = re.search(rf"(?m)^ *{key}: (\S+)", text)
        return float(found.group(1)) if found else 0.0

    scan = SCANS[name]
    counts = ("noise_scans", "dummy_scans", "averages", "water_reference_averages", "water_reference_interval")
    wanted = {key: scan.get(key, 0) for key in counts} | {
        "cycle_steps": STEPS.get(scan.get("phase_cycle"), 1) * (2 if name == "isis_press" else 1),
        "conditions": 2 if name == "mega_press" else 1,
        "receiver_phase_rad": 0.0,
        "adc_samples": scan["adc_samples"],
        "adc_dwell_s": 1e-6 * number("adc_dwell_us"),
        "tr_s": 1e-3 * number("tr_ms"),
        "te_s": 1e-3 * (number("te_ms") or number("te1_ms") + number("te2_ms")),
    }
    if name == "mega_press":
        shifts_ppm = (number("editing_on_ppm"), number("editing_off_ppm"))
        frequency_mhz = number("spectrometer_frequency_mhz")
        wanted["editing_hz"] = [frequency_mhz * (ppm - number("water_shift_ppm")) for ppm in shifts_ppm]
    if name == "pulse_acquire":
        frequency_mhz = number("spectrometer_frequency_mhz")
        wanted["carrier_hz"] = frequency_mhz * (number("carrier_ppm") - number("water_shift_ppm"))
        wanted["after_pulse_s"] = opens_after_s(library.scanner(scanner), 1e-6 * number("pulse_duration_us"), wanted)
    elif name != "sign_check":
        suppression = re.search(r"(?m)^  water_suppression: (\w+)", text)
        wanted["water_pulses"] = WATER_PULSES[suppression.group(1) if suppression else "wet"]
        wanted["slabs"] = N_SLABS if "outer_volume_suppression" in scan else 0
    return wanted


def opens_after_s(scanner: Scanner, pulse_s: float, wanted: dict[str, object]) -> tuple[float, float]:
    """Return when the first sample after a pulse alone may come, s after its centre: at once, on the rasters."""
    soonest_s = pulse_s / 2 + max(scanner.rf_ringdown_s, scanner.adc_dead_time_s) + wanted["adc_dwell_s"] / 2
    waits_s = scanner.segment_rf_wait_s - scanner.segment_adc_wait_s
    rasters_s = scanner.block_raster_s + scanner.rf_raster_s
    return soonest_s, soonest_s + min(scanner.rf_ringdown_s, scanner.adc_dead_time_s) + waits_s + rasters_s


def edits_of(shot: dict[str, object]) -> list[dict[str, float]]:
    """Return peak and net flip angle of every designed pulse of a shot, in order of play, from a design file."""
    edits = {}
    for pulse in shot["pulses"]:
        samples = [complex(*pair) for pair in zip(pulse["b1_re_hz"], pulse["b1_im_hz"], strict=True)]
        edit = {
            "peak_hz": max(map(abs, samples)),
            "net_rad": 2 * math.pi * pulse["dwell_s"] * abs(sum(samples)),
        }
        edits |= dict.fromkeys(pulse["places"], edit)
    return [edits[place] for place in sorted(edits)]


def write_designed(vendor: str, folder: Path, name: str) -> dict[str, object]:
    """Write PRESS with a design, and return what it asks for."""
    protocol, design = folder / f"{name}.yaml", folder / f"{name}.json"
    protocol.write_text(changed(protocol_of("press", vendor), DESIGNED[name], name))
    run("design", protocol, "-o", design)
    built = folder / "built"
    run("build", protocol, "--design", design, "-o", built)
    for form in ("", "_141"):
        (built / f"press_edited{form}.seq").rename(folder / f"{name}{form}.seq")
    shots = json.loads(design.read_text())["shots"]
    sets = [
        {
            "train": EDITED_AS[len(edits)],
            "edits": edits,
            "te_s": shot["te1_s"] + shot["te2_s"],
            "receiver_phase_rad": shot["receiver_phase_rad"],
        }
        for shot, edits in zip(shots, map(edits_of, shots), strict=True)
    ]
    return expected(protocol.read_text(), "press", VENDORS[vendor][0]) | {"conditions": len(sets), "sets": sets}


def write(vendor: str, folder: Path) -> None:
    """Write the files of one vendor."""
    folder.mkdir(parents=True)
    stated = {}
    for name in SCANS:
        text = protocol_of(name, vendor)
        protocol = folder / f"{name}.yaml"
        protocol.write_text(text)
        stated[name] = expected(text, name, VENDORS[vendor][0])
        run("build", protocol, "-o", folder)
    for name in DESIGNED:
        stated[name] = write_designed(vendor, folder, name)
    (folder / "expected.json").write_text(json.dumps(stated, indent=2))
    write_limits(vendor, folder / "limits.txt")


def run(*words: object) -> None:
    """Run a command of seqgen."""
    main([str(word) for word in words], standalone_mode=False)


def write_limits(vendor: str, path: Path) -> None:
    """Write the scanner's limits as pulserver reads them."""
    name, frequency_mhz, _ = VENDORS[vendor]
    scanner = library.scanner(name)
    limits = {
        "B0": frequency_mhz / 42.577478518,
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
    lines = [f"{key}: {value}" for key, value in limits.items()]
    path.write_text("\n".join(["[Limits]", *lines, "[Limits End]", ""]))


if __name__ == "__main__":
    for vendor in VENDORS:
        write(vendor, Path(sys.argv[1]) / vendor)
