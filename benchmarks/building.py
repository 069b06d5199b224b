"""Edited PRESS built and written as `.seq`, beside plain PyPulseq: every event made anew for every block."""

import json
import math
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pypulseq as pp

from benchmarks import epoch
from benchmarks.measure import cpu_seconds
from seqgen import library
from seqgen.pipeline.build import compare_shots
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Block
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import SeqFormat, pulseq_system, write_seq
from seqgen.sequence.plugins import BuildContext, Built, find_sequence

FORMATS: tuple[SeqFormat, ...] = ("1.5.0", "1.4.1")
SPECTROMETER_HZ = 123.2e6
_AXES = ("x", "y", "z")


def built(averages: int) -> Built:
    """Return edited PRESS with a 20 ms pulse on a Prisma."""
    press = find_sequence("press")
    pulse = RFPulse(b1_hz=epoch.pulse(2000), dwell_s=1e-5, name="edit")
    context = BuildContext(
        scanner=library.scanner("siemens_prisma_3t"),
        spectrometer_frequency_hz=SPECTROMETER_HZ,
        water_shift_ppm=4.7,
        editing_pulse=pulse,
    )
    params = press.Params(te1_s=0.05, te2_s=0.05, tr_s=2.0, voxel_size_m=(0.02, 0.025, 0.03), averages=averages)
    return press.build(params, context)


def ours(averages: int, path: Path, seq_format: SeqFormat) -> None:
    """Build and write."""
    made = built(averages)
    write_seq(
        made.blocks,
        path,
        scanner=library.scanner("siemens_prisma_3t"),
        spectrometer_frequency_hz=SPECTROMETER_HZ,
        definitions=made.definitions,
        seq_format=seq_format,
        shot_starts=made.shot_starts,
    )


def naive(averages: int, path: Path, seq_format: SeqFormat) -> None:
    """Build the same blocks and write them as the examples of PyPulseq do."""
    made = built(averages)
    system = pulseq_system(library.scanner("siemens_prisma_3t"), SPECTROMETER_HZ)
    sequence = pp.Sequence(system=system)
    for block in made.blocks:
        sequence.add_block(*_events(block, system))
    for key, value in made.definitions.items():
        sequence.set_definition(key, list(value) if isinstance(value, tuple) else value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "compatibility mode" of 1.4.1, which is asked for
        sequence.write(str(path), v141_compat=seq_format == "1.4.1")


def _events(block: Block, system: pp.Opts) -> list[object]:
    """Return new PyPulseq events of a block."""
    events: list[object] = [pp.make_delay(block.duration_s)]
    if block.rf is not None:
        rf = block.rf
        event = pp.make_arbitrary_rf(
            signal=np.asarray(rf.b1_hz.detach()),
            flip_angle=math.pi,
            dwell=rf.raster_s,
            freq_offset=rf.frequency_hz,
            phase_offset=(rf.phase_rad - 2 * math.pi * rf.frequency_hz * rf.centre_s) % (2 * math.pi),
            delay=rf.delay_s,
            no_signal_scaling=True,
            use=rf.use,
            system=system,
        )
        event.center = rf.centre_s
        events.append(event)
    for axis, lobe in zip(_AXES, block.gradients, strict=True):
        if lobe is not None and lobe.amplitude_hz_per_m != 0:
            events.append(
                pp.make_trapezoid(
                    channel=axis,
                    amplitude=lobe.amplitude_hz_per_m,
                    rise_time=lobe.rise_s,
                    flat_time=lobe.flat_s,
                    fall_time=lobe.fall_s,
                    delay=lobe.delay_s,
                    system=system,
                )
            )
    if block.adc is not None:
        adc = block.adc
        events.append(
            pp.make_adc(
                num_samples=adc.n_samples,
                dwell=adc.dwell_s,
                delay=adc.delay_s,
                freq_offset=adc.frequency_hz,
                phase_offset=adc.phase_rad % (2 * math.pi),
                system=system,
            )
        )
    events += [pp.make_label(type="SET", label=name, value=value) for name, value in block.labels.items()]
    return events


WAYS = {"ours": ours, "naive": naive}


Report = dict[str, float | int | None]


def measure(*, quick: bool) -> Report:
    """Return times, peak memory, file sizes and numbers of shapes of 128 and 1024 averages in both formats.

    Quick: without the naive way's 1024 averages, which take minutes. Both ways' files are read back and must play the
    same.

    Raises:
        VerificationError: If they do not.
    """
    report: Report = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS.values():
            way(2, Path(folder) / "warm.seq", "1.5.0")
        for averages in (128, 1024):
            names = [name for name in WAYS if name == "ours" or averages == 128 or not quick]
            for seq_format in FORMATS:
                report |= _side_by_side(names, averages, seq_format, Path(folder))
            for name in names:
                report[f"build_{name}_{averages}_peak_mb"] = peak_mb_of(name, averages)
    return report


def _side_by_side(names: list[str], averages: int, seq_format: SeqFormat, folder: Path) -> Report:
    """Return what each way takes, and what its file holds; compare what the files play."""
    report: Report = {}
    label = f"{averages}_{seq_format.replace('.', '')}"
    played, seconds = {}, {}
    for name in names:
        path = folder / f"{name}.seq"
        seconds[name], _ = cpu_seconds(partial(WAYS[name], averages, path, seq_format))
        text = path.read_text(encoding="ascii")
        report[f"build_{name}_{label}_s"] = seconds[name]
        report[f"build_{name}_{label}_kb"] = len(text) / 1024
        report[f"build_{name}_{label}_shapes"] = n_shapes(text)
        played[name] = shots(read_seq(path))
    if "naive" in names:
        compare_shots(played["naive"], played["ours"], f"{averages} averages, {seq_format}")
        report[f"build_ratio_{label}"] = seconds["naive"] / seconds["ours"]
    return report


def n_shapes(text: str) -> int:
    """Return the number of shapes in a file."""
    return sum(line.startswith("shape_id ") for line in text.splitlines())


def peak_mb_of(name: str, averages: int) -> float | None:
    """Return how far a way raises the memory of a fresh process that has imported and warmed up all."""
    code = (
        "import json, pathlib, sys, tempfile, torch; torch.set_num_threads(1); from benchmarks import building; "
        "from benchmarks.measure import peak_mb; way = building.WAYS[sys.argv[1]]; folder = tempfile.mkdtemp(); "
        "path = pathlib.Path(folder) / 'a.seq'; way(2, path, '1.5.0'); "
        "print(json.dumps(peak_mb(lambda: way(int(sys.argv[2]), path, '1.5.0'))[0])); path.unlink(); "
        "pathlib.Path(folder).rmdir()"
    )
    done = subprocess.run([sys.executable, "-c", code, name, str(averages)], capture_output=True, text=True, check=True)
    result: float | None = json.loads(done.stdout)
    return result
