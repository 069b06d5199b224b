"""Pictures and tables of docs/sequences.md and docs/sequences/: `python docs/sequence_figures.py` renews all."""

import ast
import dataclasses
import inspect
import itertools
import math
import re
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from seqgen import library
from seqgen.axes import ppm_to_hz
from seqgen.pulse.shapes import gaussian_pulse
from seqgen.report.canvas import save_figure
from seqgen.report.diagram import sequence_diagram
from seqgen.seqfile.blocks import Block
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.double_echo import DoubleEchoParams
from seqgen.sequence.outer_volume import OuterVolumeParams
from seqgen.sequence.plugins import GROUP, BuildContext, Built, editing_places, find_sequence
from seqgen.sequence.preparation import PreparationParams
from seqgen.sequence.scan import ScanParams
from seqgen.sequence.voxel import VoxelParams
from seqgen.simulate.pathways import cycle_weight, moments_between_centres, principal_echo
from seqgen.simulate.slices import slice_of
from seqgen.timeline import Timeline

DOCS = Path(__file__).parent
OVERVIEW = DOCS / "sequences.md"
SEQUENCES = ("press", "mega_press", "steam", "slaser", "isis_press")
"""Localised sequences, with a page in docs/sequences/; the sign check and pulse-acquire have docs/NAME.md."""
SHARED = (VoxelParams, OuterVolumeParams, PreparationParams, ScanParams)
"""Parameters of every sequence, whose tables are in the overview."""
DRAWN: dict[str, dict[str, Any]] = {
    "press": {"te1_s": 0.014, "te2_s": 0.016},
    "mega_press": {"te1_s": 0.013, "te2_s": 0.055},
    "steam": {"te_s": 0.014, "tm_s": 0.01},
    "slaser": {"te_s": 0.046},
    "isis_press": {"te1_s": 0.014, "te2_s": 0.016},
}
"""Echo times of the pictures: above the minimum, so that delays show."""
_SHORT: dict[str, Any] = {
    "voxel_size_m": (0.02, 0.02, 0.02),
    "water_suppression": "none",
    "dummy_scans": 0,
    "water_reference_averages": 0,
    "adc_samples": 64,
}
STEPS = {"two_step": 2, "exor_4": 4, "eight_step": 8, "exor_16": 16}
"""Steps of the phase cycles."""
_KINDS = (
    "FID of the first pulse",
    "FID of a later pulse",
    "echo of the first pulse",
    "echo of a later pulse",
    "stored along z",
)


def seqgen_sequences() -> list[str]:
    """Return the sequences of this project; those that other installed packages add are left out."""
    return sorted({point.name for point in entry_points(group=GROUP) if point.dist and point.dist.name == "seqgen"})


def page(name: str) -> Path:
    """Return the page of a sequence."""
    return DOCS / "sequences" / f"{name}.md" if name in SEQUENCES else DOCS / f"{name}.md"


# --- What is built ---------------------------------------------------------------------------------------------------


def context(*, edited: bool = False) -> BuildContext:
    """Return the Prisma of all tables, with a 20 ms Gaussian on Glu H4 where an editing pulse is wanted."""
    plain = BuildContext(
        scanner=library.scanner("siemens_prisma_3t"), spectrometer_frequency_hz=123.2e6, water_shift_ppm=4.65
    )
    pulse = gaussian_pulse(flip_angle_rad=math.pi, duration_s=0.02, dwell_s=2e-5, name="edit")
    carrier_hz = ppm_to_hz(2.35, plain.spectrometer_frequency_hz, plain.water_shift_ppm)
    return replace(plain, editing_pulse=replace(pulse, carrier_offset_hz=carrier_hz)) if edited else plain


def cycle_names(name: str) -> tuple[str, ...]:
    """Return the phase cycles that a sequence knows."""
    return get_args(get_type_hints(find_sequence(name).Params)["phase_cycle"])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Made:
    """One phase cycle of a sequence."""

    built: Built
    """All of its blocks."""
    shot_blocks: tuple[tuple[Block, ...], ...]
    """Blocks of every shot of one cycle (of the first editing condition)."""

    @property
    def first(self) -> Timeline:
        """The first shot, written and read back."""
        return _read_back(self.shot_blocks[0])

    @property
    def phases(self) -> list[tuple[list[float], float]]:
        """(phase of every pulse relative to the first shot, phase of the receiver) of every shot of the cycle, rad."""
        rf = [[block.rf.phase_rad for block in shot if block.rf is not None] for shot in self.shot_blocks]
        receiver = [next(block.adc.phase_rad for block in shot if block.adc is not None) for shot in self.shot_blocks]
        return [([a - b for a, b in zip(row, rf[0], strict=True)], rx) for row, rx in zip(rf, receiver, strict=True)]


@lru_cache(maxsize=32)
def made(name: str, phase_cycle: str = "two_step", **changes: float) -> Made:
    """Return one phase cycle of a sequence; echo times at their minimum but for `changes`."""
    spec, at = find_sequence(name), context()
    n_sets, n_alike = 2 if name == "mega_press" else 1, 2 if name == "isis_press" else 1
    asked = _SHORT | {"phase_cycle": phase_cycle, "averages": STEPS[phase_cycle] * n_sets * n_alike}
    built = spec.build(sensible_params(spec, at, **(asked | changes)), at)
    starts = [*built.shot_starts, len(built.blocks)]
    cycle = tuple(built.blocks[a:b] for a, b in list(itertools.pairwise(starts))[::n_sets])
    return Made(built=built, shot_blocks=cycle)


@lru_cache(maxsize=32)
def _read_back(blocks: tuple[Block, ...]) -> Timeline:
    """Return a shot as a file plays it."""
    at = context()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.seq"
        write_seq(
            blocks,
            path,
            scanner=at.scanner,
            spectrometer_frequency_hz=at.spectrometer_frequency_hz,
            definitions={"Name": "shot"},
        )
        return shots(read_seq(path))[0].timeline


# --- Pathways --------------------------------------------------------------------------------------------------------


def kind(orders: Sequence[int]) -> str:
    """Return what a pathway is called.

    By where it becomes transverse, whether it is stored along z after that, and whether its order changes sign (an
    echo) or never does (a FID).
    """
    start = next(k for k, order in enumerate(orders) if order != 0)
    after = orders[start:]
    if 0 in after:
        return "stored along z"
    changes = any(a != b for a, b in itertools.pairwise(after))
    return f"{'echo' if changes else 'FID'} of {'the first' if start == 0 else 'a later'} pulse"


def pathways(name: str) -> tuple[tuple[int, ...], list[tuple[tuple[int, ...], float]]]:
    """Return the wanted pathway, and every other one of orders -1, 0, 1 with the length of its moment, cycles/m."""
    shot = made(name).first
    wanted = principal_echo(shot).pathway.orders
    moments = moments_between_centres(shot)
    found = []
    for path in itertools.product((-1, 0, 1), repeat=len(wanted) - 1):
        orders = (*path, -1)
        if orders != wanted:
            found.append((orders, float((torch.tensor(orders, dtype=torch.float64) @ moments).norm())))
    return wanted, found


def passes(orders: Sequence[int], phases: Sequence[tuple[list[float], float]]) -> bool:
    """Return whether a phase cycle lets a pathway through."""
    return abs(cycle_weight(orders, phases)) > 1e-6


def pulse_phases(name: str, phase_cycle: str) -> list[tuple[list[float], float]]:
    """Return the phases of a cycle; of the two alike shots of every ISIS step the one with the inversion."""
    phases = made(name, phase_cycle).phases
    return phases[::2] if name == "isis_press" else phases


def pathway_table() -> str:
    """Return how many unwanted pathways every phase cycle lets through, and the least moment that crushes them."""
    lines = [
        f"| sequence | cycle | steps | {' | '.join(_KINDS)} | least moment of what passes (cycles/m) |",
        f"|---|---|---|{'---|' * len(_KINDS)}---|",
    ]
    for name in SEQUENCES:
        _, found = pathways(name)
        for phase_cycle in cycle_names(name):
            phases = pulse_phases(name, phase_cycle)
            passed = [(orders, moment) for orders, moment in found if passes(orders, phases)]
            counts = []
            for what in _KINDS:
                of = sum(kind(orders) == what for orders, _ in found)
                counts.append(f"{sum(kind(orders) == what for orders, _ in passed)} of {of}" if of else "")
            least = f"{min(moment for _, moment in passed):.0f}" if passed else "none passes"
            lines.append(f"| `{name}` | `{phase_cycle}` | {len(phases)} | {' | '.join(counts)} | {least} |")
    return "\n".join(lines)


def nearest_pathways_table(name: str, most: int = 8) -> str:
    """Return the unwanted pathways with the least moments, and which phase cycles cancel them."""
    cycles = {phase_cycle: pulse_phases(name, phase_cycle) for phase_cycle in cycle_names(name)}
    lines = [
        f"| pathway | what it is | moment (cycles/m) | {' | '.join(f'`{cycle}`' for cycle in cycles)} |",
        f"|---|---|---|{'---|' * len(cycles)}",
    ]
    for orders, moment in sorted(pathways(name)[1], key=lambda pair: (round(pair[1]), pair[0]))[:most]:
        answers = ("passes" if passes(orders, phases) else "cancelled" for phases in cycles.values())
        lines.append(f"| {_signed(orders)} | {kind(orders)} | {moment:.0f} | {' | '.join(answers)} |")
    return "\n".join(lines)


def cycle_table(name: str) -> str:
    """Return the phases of every cycle, in degrees."""
    lines = ["| cycle | shots | pulses that step, the last one fastest | receiver in every shot |", "|---|---|---|---|"]
    for phase_cycle in cycle_names(name):
        phases = made(name, phase_cycle).phases
        stepping = []
        for k, pulse in enumerate(pulse_names(name)):
            steps = list(dict.fromkeys(_degrees([row[k]]) for row, _ in phases))
            if len(steps) > 1:
                stepping.append(f"{pulse} {' '.join(steps)}")
        if name == "isis_press":
            stepping.append("inversion played, left out")
        receiver = _degrees([rx for _, rx in phases])
        lines.append(f"| `{phase_cycle}` | {len(phases)} | {'; '.join(stepping)} | {receiver} |")
    return "\n".join(lines)


# --- Times and moments -----------------------------------------------------------------------------------------------


def pulse_names(name: str) -> list[str]:
    """Return the names of the pulses of a shot, numbered where they share one."""
    played = [str(block.rf.use) for block in made(name).shot_blocks[0] if block.rf is not None]
    if name == "steam":
        played = ["pulse"] * len(played)
    played = ["editing" if use == "preparation" else use for use in played]
    seen: dict[str, int] = {}
    numbered = []
    for use in played:
        seen[use] = seen.get(use, 0) + 1
        numbered.append(f"{use} {seen[use]}" if played.count(use) > 1 else use)
    return numbered


def budget_table(name: str) -> str:
    """Return what stands between RF centres at the minimum echo times, ms."""
    one = made(name)
    names = [*pulse_names(name), "echo"]
    lines = [
        "| from | to | time (ms) | = rest of the pulse | + lobes | + delay | + start of the next, or ADC dead time |",
        "|---|---|---|---|---|---|---|",
    ]
    for (before, after), parts_s in zip(itertools.pairwise(names), _parts_s(one), strict=True):
        total = f"{sum(parts_s) * 1e3:.3f}"
        lines.append(f"| {before} | {after} | {total} | {' | '.join(f'{part * 1e3:.3f}' for part in parts_s)} |")
    return "\n".join(lines)


def _parts_s(one: Made) -> Iterator[tuple[float, float, float, float]]:
    """Yield (rest of the pulse, gradients, delay, start of the next) between RF centres, s; the last up to the echo."""
    rest_s, lobes_s, waits_s, now_s = 0.0, 0.0, 0.0, 0.0
    excitation_s = None
    for block in one.shot_blocks[0]:
        if block.rf is not None:
            centre_s = block.rf.delay_s + block.rf.centre_s
            if now_s > 0:
                yield rest_s, lobes_s, waits_s, centre_s
            if excitation_s is None and block.rf.use == "excitation":
                excitation_s = now_s + centre_s
            rest_s, lobes_s, waits_s = block.duration_s - centre_s, 0.0, 0.0
        elif block.adc is not None:
            assert excitation_s is not None
            echo_s = excitation_s + float(one.built.definitions["TE"]) + float(one.built.definitions.get("TM", 0.0))
            dead_s = context().scanner.adc_dead_time_s
            yield rest_s, lobes_s, waits_s + max(echo_s - now_s - dead_s, 0.0), dead_s
            return
        elif any(gradient is not None for gradient in block.gradients):
            lobes_s += block.duration_s
        else:
            waits_s += block.duration_s
        now_s += block.duration_s


def moment_table(name: str) -> str:
    """Return the moments of lobes between RF centres, and of everything there, cycles/m along the voxel's axes."""
    one = made(name)
    names = [*pulse_names(name), "readout"]
    lobes: list[list[str]] = [[]]
    for block in one.shot_blocks[0]:
        if block.adc is not None:
            break
        if block.rf is not None:
            lobes.append([])
        elif any(gradient is not None for gradient in block.gradients):
            moment = [0.0 if g is None else g.amplitude_hz_per_m * (g.rise_s + g.flat_s) for g in block.gradients]
            lobes[-1].append(_vector(moment))
    lines = [
        "| from | to | lobes | all gradients from centre to centre | order of the wanted signal |",
        "|---|---|---|---|---|",
    ]
    wanted = principal_echo(one.first).pathway.orders
    rows = zip(itertools.pairwise(names), lobes[1:], moments_between_centres(one.first).numpy(), wanted, strict=True)
    for (before, after), played, total, order in rows:
        shown = ", ".join(played) or "none"
        lines.append(f"| {before} | {after} | {shown} | {_vector(total)} | {order:+d} |".replace("+0", "0"))
    return "\n".join(lines)


def slice_table(name: str) -> str:
    """Return the slices of the 20 mm cube: thickness at half maximum, displacement by 1 ppm, largest RF amplitude."""
    at = context()
    lines = ["| pulse | axis | slice (mm) | moved by 1 ppm (mm) | largest B1 (Hz) |", "|---|---|---|---|---|"]
    carrier_hz = ppm_to_hz(2.8, at.spectrometer_frequency_hz, at.water_shift_ppm)
    for pulse, (_, interval) in zip(pulse_names(name), made(name).first.pulses(), strict=True):
        peak = f"{float(interval.b1_hz.abs().max()):.0f}"
        here = slice_of(interval, offset_hz=carrier_hz)
        if here is None:
            lines.append(f"| {pulse} | not selective | | | {peak} |")
            continue
        moved_m = []
        for ppm in (-1, 1):
            there = slice_of(interval, offset_hz=carrier_hz + ppm * 1e-6 * at.spectrometer_frequency_hz)
            assert there is not None
            moved_m.append(abs(there.centre_m - here.centre_m))
        axis = int(interval.gradient_hz_per_m.abs().amax(0).argmax()) + 1
        lines.append(f"| {pulse} | {axis} | {here.thickness_m * 1e3:.1f} | {max(moved_m) * 1e3:.2f} | {peak} |")
    return "\n".join(lines)


def overview_table() -> str:
    """Return what every sequence offers, and its minimum echo times."""
    lines = [
        "| sequence | RF pulses | phase cycles | places for a designed pulse | minimum TE (ms) | with a 20 ms pulse |",
        "|---|---|---|---|---|---|",
    ]
    for name in SEQUENCES:
        spec, places = find_sequence(name), editing_places(find_sequence(name))
        n_pulses = len(made(name).first.pulses())
        cycles = ", ".join(f"`{cycle}`" for cycle in cycle_names(name))
        shown = ", ".join(f"`{place}`" for place in places) or "none"
        edited = _minimum(spec, context(edited=True)) if places else "refused"
        cells = (f"[`{name}`](sequences/{name}.md)", f"{n_pulses}", cycles, shown, _minimum(spec, context()), edited)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _minimum(spec: Any, at: BuildContext) -> str:
    """Return TE with its parts, ms; of STEAM and semi-LASER both halves are alike."""
    least = spec.minimum_te_s(sensible_params(spec, at, **_SHORT), at)
    total = f"{sum(least) * 1e3:.2f}"
    both = f"{total} = {least[0] * 1e3:.2f} + {least[1] * 1e3:.2f}"
    return both if "te1_s" in spec.Params.__dataclass_fields__ else total


# --- Parameters ------------------------------------------------------------------------------------------------------


def parameter_table(*classes: type[Any]) -> str:
    """Return the parameters that classes add, with defaults and docstrings."""
    lines = ["| parameter | default | |", "|---|---|---|"]
    for cls in classes:
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, text in _docstrings(cls).items():
            if any(name in getattr(base, "__dataclass_fields__", {}) for base in cls.__mro__[1:]):
                continue
            default = fields[name].default
            shown = "required" if default is dataclasses.MISSING else f"`{_plain(default)}`"
            lines.append(f"| `{name}` | {shown} | {text} |")
    return "\n".join(lines)


def _docstrings(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings under a class's own fields, on one line each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(ast.literal_eval(below.value).split()).replace("|", "\\|")
        for field, below in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr)
    }


def _plain(value: Any) -> str:
    """Return a default as it is written in a protocol."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


# --- Text ------------------------------------------------------------------------------------------------------------


def _signed(orders: Sequence[int]) -> str:
    """Return orders as (-1, +1, -1)."""
    return f"({', '.join(f'{order:+d}' if order else '0' for order in orders)})"


def _vector(moment: Sequence[float]) -> str:
    """Return a moment on three axes."""
    return f"({', '.join(f'{round(float(value)) + 0:d}' for value in moment)})"


def _degrees(angles_rad: Sequence[float]) -> str:
    """Return angles from 0 to 360 degrees."""
    return " ".join(f"{round(math.degrees(angle)) % 360:d}" for angle in angles_rad)


# --- Pages -----------------------------------------------------------------------------------------------------------


def parts(path: Path) -> dict[str, str]:
    """Return what stands between the marks of a page, by their names."""
    if path == OVERVIEW:
        shared = {f"parameters {cls.__name__}": parameter_table(cls) for cls in SHARED}
        return {"sequences": overview_table(), "pathways": pathway_table(), **shared}
    name = path.stem
    own = find_sequence(name).Params
    classes = (own, DoubleEchoParams) if issubclass(own, DoubleEchoParams) else (own,)
    return {
        "times": budget_table(name),
        "moments": moment_table(name),
        "slices": slice_table(name),
        "nearest pathways": nearest_pathways_table(name),
        "phase cycles": cycle_table(name),
        "parameters": parameter_table(*classes),
    }


def renewed(path: Path) -> str:
    """Return a page with everything between its marks made anew.

    Raises:
        ValueError: If a mark is missing.
    """
    text = path.read_text(encoding="utf-8")
    for name, content in parts(path).items():
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{path.name} must hold the marks of {name!r} once.")
        text = pattern.sub(lambda match, content=content: f"{match[1]}\n{content}\n\n{match[2]}", text)
    return text


def draw(name: str) -> None:
    """Write docs/images/sequence_NAME.png: the first shot without water suppression."""
    one = made(name, **DRAWN[name])
    wanted = principal_echo(one.first).pathway.orders
    asked = DRAWN[name]
    if "tm_s" in asked:
        half_s = asked["te_s"] / 2
        echo_times = {"first TE/2": half_s, "TM": asked["tm_s"], "second TE/2": half_s}
    elif "te_s" in asked:
        echo_times = {"TE": asked["te_s"]}
    else:
        echo_times = {"TE1": asked["te1_s"], "TE2": asked["te2_s"], "TE": asked["te1_s"] + asked["te2_s"]}
    named = iter(pulse_names(name))
    intervals = tuple(
        interval if interval.use is None else replace(interval, name=next(named)) for interval in one.first.intervals
    )
    shot = Timeline(intervals=intervals, name=name)
    save_figure(
        sequence_diagram(shot, echo_times=echo_times, pathway=wanted, overview=False),
        DOCS / "images" / f"sequence_{name}.png",
    )


def main() -> None:
    """Renew pages and pictures."""
    for path in (OVERVIEW, *map(page, SEQUENCES)):
        path.write_text(renewed(path), encoding="utf-8", newline="\n")
    for name in SEQUENCES:
        draw(name)


if __name__ == "__main__":
    main()
