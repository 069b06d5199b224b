"""The command line: parse, call, print. No physics, and no heavy import before the arguments are parsed."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from seqgen.errors import SeqgenError, VerificationError

if TYPE_CHECKING:
    from seqgen.pipeline.study import ScanStudy, Study
    from seqgen.provenance import Progress
    from seqgen.report.html import Verdict

EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])
AnyStudy = TypeVar("AnyStudy", bound="ScanStudy")

_PROTOCOL = click.argument("protocol", type=click.Path(path_type=Path))
_VOXEL_FROM = click.option(
    "--voxel-from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Place the voxel where this NIfTI shows it (a mask, a 1 x 1 x 1 box or NIfTI-MRS, in scanner coordinates), "
    "whatever the protocol says.",
)
_CONDITION = click.option(
    "--condition",
    type=int,
    metavar="SET",
    help="Editing condition, for sequences with several: in MEGA-PRESS 0 is ON and 1 is OFF.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object, for machines.")


def _output(what: str, default: str | None = None) -> Callable[[F], F]:
    """Return the option -o; without a default it must be given."""
    # An explicit default of None would count as a value: click would then not ask for the option.
    given: dict[str, Any] = {"required": True} if default is None else {"default": default, "show_default": True}
    return click.option("-o", "--output", type=click.Path(path_type=Path), help=what, **given)


class _Commands(click.Group):
    """Commands in the order of the chain; errors of seqgen become one clear line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SeqgenError as error:
            click.echo(f"seqgen: error: {error}", err=True)
            ctx.exit(EXIT_CHECK_FAILED if isinstance(error, VerificationError) else EXIT_BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Files that were finished before stay as they are.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            # What no module could name: a library's own scratch files on a full disk, say.
            click.echo(
                f"seqgen: error: the system refused: {error}. Free some space and check the permissions of the folders "
                "involved.",
                err=True,
            )
            ctx.exit(EXIT_BAD_INPUT)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="seqgen")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the numerical kernels."
)
def main(threads: int) -> None:
    """Design RF editing pulses, write them as Pulseq files, and turn what the scanner returns into concentrations.

    \b
    The chain, link by link (run does all of them with a simulated scan):
      protocol.yaml -> design -> build -> check -> [scan, or simulate] -> convert -> process -> fit -> report

    \b
    Start here:
      seqgen init -o my_study.yaml
      seqgen run my_study.yaml -o runs/my_study

    \b
    Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted.
    No statement of seqgen licenses a scan: the scanner's own supervision and the site's safety officer decide.
    """
    # Through the environment, because torch is not imported yet (and need not be for every command). A number on the
    # command line comes before the environment, the environment before the default.
    stated = click.get_current_context().get_parameter_source("threads") is not click.core.ParameterSource.DEFAULT
    if stated or "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads)


class _Console:
    """Tells the user what happens: lines and progress bars on stderr, silent with --json."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.bars: list[Any] = []

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.silent:
            click.echo(text, err=True)

    def progress(self, label: str) -> "Progress":
        """Return the update function of a progress bar; no bar is drawn where stderr is no terminal."""
        from tqdm import tqdm

        bar = tqdm(total=1, desc=label, disable=True if self.silent else None, leave=True, unit="step")

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()

        return update


def _now() -> str:
    """Return the time for records, ISO 8601 in UTC."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


def _study(path: Path) -> "Study":
    """Read the protocol of a whole study."""
    from seqgen.pipeline.study import load_study

    _require_protocol(path)
    return load_study(path)


def _scan_study(path: Path) -> "ScanStudy":
    """Read the protocol of a scan, or of a whole study."""
    from seqgen.pipeline.study import load_scan_study

    _require_protocol(path)
    return load_scan_study(path)


def _require_protocol(path: Path) -> None:
    """Refuse a simulation file."""
    from seqgen.errors import InputError
    from seqgen.simulation_file import simulation_kind

    kind = simulation_kind(path)
    if kind is not None:
        raise InputError(
            f"{path} says `simulation: {kind}`: it is a simulation file and no protocol. Play it with "
            f"`seqgen simulate {path}`, or give a protocol (seqgen init)."
        )


def _placed(study: AnyStudy, voxel_from: Path | None, console: _Console) -> AnyStudy:
    """Return a study with its voxel taken from a NIfTI file, if one is given; say what was understood."""
    if voxel_from is None:
        return study
    from seqgen.pipeline.voxel import study_with_voxel, voxel_text

    placed, found = study_with_voxel(study, voxel_from)
    console.say(f"Voxel from {voxel_from}\n{voxel_text(found)}")
    return placed


def _print(as_json: bool, result: dict[str, Any], text: str) -> None:
    """Print a result as JSON or as text."""
    click.echo(json.dumps(result, indent=2) if as_json else text)


@main.command()
@_PROTOCOL
@_VOXEL_FROM
@_output("Folder for all files; made if it does not exist.")
@_JSON
def run(protocol: Path, voxel_from: Path | None, output: Path, as_json: bool) -> None:
    """Run the whole chain on PROTOCOL with a simulated scan.

    Designs the editing pulse, writes the edited and the TE-optimised plain sequence (Pulseq 1.5.0 and 1.4.1), checks
    the limits of the scanner on the written file, simulates the scan from that file (several coils, noise, drift,
    residual water, a sample that differs from the tables), converts the raw data (MRD) to NIfTI-MRS, processes, fits
    with the basis of that very file, and writes report.html. A few minutes on two cores. For designs of one shot that
    press plays; others go step by step (docs/conversion.md).

    \b
    Example:
      seqgen run protocols/phantom_glu_gln_3t.yaml -o runs/phantom_glu_gln_3t
    """
    from seqgen.pipeline.folder import RunFolder
    from seqgen.pipeline.run import run_all

    console = _Console(as_json)
    quantified, verdicts = run_all(_placed(_study(protocol), voxel_from, console), output, console, time=_now())
    report_path = RunFolder(path=output).report
    result = {
        "report": str(report_path),
        "fit_status": quantified.fit.status,
        "metabolites": {
            row.name: {"unit": row.unit, "truth": row.truth, "fitted": row.fitted, "crlb_sd": row.crlb_sd}
            for row in verdicts
        },
    }
    _print(as_json, result, _verdict_lines(verdicts, quantified.fit.status) + f"\nReport: {report_path}")


def _verdict_lines(verdicts: "tuple[Verdict, ...]", status: str) -> str:
    """Return the table of truth, fit and bound."""
    lines = [f"{'':12}{'truth':>10}{'fitted':>10}{'CRLB':>10}"]
    lines += [
        f"{row.name:12}{'' if row.truth is None else format(row.truth, '.3f'):>10}{row.fitted:10.3f}{row.crlb_sd:10.3f}"
        f" {row.unit}"
        for row in verdicts
    ]
    return "\n".join([*lines, f"Fit: {status}"])


@main.command()
@_PROTOCOL
@_output("Design file (JSON).", "design.json")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the output: same end as unbroken.")
@_JSON
def design(protocol: Path, output: Path, resume: bool, as_json: bool) -> None:
    """Optimise the editing pulse of PROTOCOL and find the best plain PRESS for the same loss.

    The pulse never exceeds the B1 (Hz) and energy (Hz^2 s) limits of the protocol and the B1 of the scanner. Same
    protocol, same seed, same pulse. Every few seconds the search is kept in a checkpoint (design.checkpoint.npz).
    Ctrl-C writes the best pulse so far and ends with exit code 130; --resume goes on from there.

    \b
    Example:
      seqgen design protocols/phantom_glu_gln_3t.yaml -o design.json
    """
    from dataclasses import asdict

    from seqgen.design.artefact import design_text
    from seqgen.design.landscape import landscape_text
    from seqgen.pipeline.design import DesignInterrupted, make_design, require_none_begun

    console, interrupted = _Console(as_json), False
    if not resume:
        require_none_begun(_study(protocol), output)
    try:
        made = make_design(_study(protocol), output, console, resume=resume)
    except DesignInterrupted as stop:
        made, interrupted = stop.design, True
    result = {
        "design": str(output),
        "status": made.status,
        "te1_s": made.te1_s,
        "te2_s": made.te2_s,
        "peak_hz": max(pulse.peak_hz for pulse in made.pulses),
        "energy_hz2_s": max(pulse.energy_hz2_s for pulse in made.pulses),
        "metrics": asdict(made.metrics),
        "press": {
            "te1_s": made.press_te1_s,
            "te2_s": made.press_te2_s,
            "optima": made.press_optima,
            **asdict(made.press_metrics),
        },
        "landscape": None if made.landscape is None else made.landscape.to_json(),
    }
    starts = "" if made.landscape is None else f"{landscape_text(made.landscape)}\n"
    _print(as_json, result, f"{design_text(made)}\n{starts}Design: {output}")
    if interrupted:
        console.say("Interrupted: this is the best pulse so far; --resume goes on.")
        sys.exit(EXIT_INTERRUPTED)


@main.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the sweep.  [default: the name of STUDY without its ending]",
)
@click.option("--workers", type=click.IntRange(1), help="Local worker processes; 1: in this one.  [default: the cores]")
@click.option("--cluster", metavar="ADDRESS", help="Compute on a Dask cluster: its scheduler, as tcp://host:8786.")
@click.option("--retry", is_flag=True, help="Compute failed points again.")
@click.option("--report-only", is_flag=True, help="Compute nothing: table and plots of what is on disk.")
@_JSON
def sweep(
    study: Path,
    output: Path | None,
    workers: int | None,
    cluster: str | None,
    retry: bool,
    report_only: bool,
    as_json: bool,
) -> None:
    """Design every point of STUDY, a file that names a protocol and what varies (duration in ms, B1 in Hz, seed ...).

    Every point has a folder with its own protocol, its design and, while it runs, its checkpoint. Only points without
    a result are computed: after Ctrl-C, a killed worker or scheduler, the same command goes on. Table (CSV) and Pareto
    plots are made from the files on disk. Exit code 1 if a point failed or, without
    --report-only, has no result (docs/sweep.md).

    \b
    Example:
      seqgen sweep protocols/sweep_glu_gln_3t.yaml -o runs/sweep_glu_gln_3t
    """
    from seqgen.pipeline.sweep import run_sweep
    from seqgen.pipeline.sweep_table import report_sweep, table_text
    from seqgen.sweep_file import load_sweep

    console, loaded, interrupted = _Console(as_json), load_sweep(study), False
    folder = study.with_suffix("") if output is None else output
    try:
        if not report_only:
            run_sweep(loaded, folder, console, workers=workers, cluster=cluster, retry=retry)
    except KeyboardInterrupt:
        interrupted = True
    made = report_sweep(loaded, folder)
    left = made.count("open", "begun")
    result = {
        "points": list(made.rows),
        "table": str(made.table),
        "fronts": {str(path): list(points) for path, points in made.fronts.items()},
    }
    _print(as_json, result, table_text(made))
    if interrupted:
        console.say(f"Interrupted: {left} points have no result; the same command goes on.")
        sys.exit(EXIT_INTERRUPTED)
    if made.count("failed") or (left and not report_only):
        sys.exit(EXIT_CHECK_FAILED)


def _numbers(_context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    """Return the numbers of an option that takes several, with commas between them."""
    try:
        return () if text is None else tuple(map(float, text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} must be numbers with commas between them, like 0.8,1,1.2.") from error


@main.command()
@_PROTOCOL
@click.argument("design_path", metavar="DESIGN", type=click.Path(path_type=Path))
@click.option("--members", is_flag=True, help="Print what every member of the ensemble shows.")
@click.option("--b0-offsets-hz", callback=_numbers, metavar="HZ,...", help="Map over these offsets.  [-20 to 20]")
@click.option("--b1-scales", callback=_numbers, metavar="X,...", help="Map over these relative B1.  [0.7 to 1.3]")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw that map, .png or .svg.")
@_JSON
def evaluate(
    protocol: Path,
    design_path: Path,
    members: bool,
    b0_offsets_hz: tuple[float, ...],
    b1_scales: tuple[float, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Recompute from the waveforms of DESIGN what it reaches, beside what the file says; also for its plain PRESS.

    Double precision, fine steps, many positions, the selective pulses of PROTOCOL. Contamination at equal
    concentrations and at those of the sample; every check of the design against its limits (Hz, Hz^2 s, ms) in the
    file that its sequence makes. Exit code 1 if a stored loss differs by more than 1e-6, or a check fails. Offsets
    (Hz), relative B1 or --plot ask for a map of signal and contamination beyond the ensemble too (a minute).

    \b
    Example:
      seqgen evaluate my_study.yaml design.json --b1-scales 0.7,1,1.3 --plot map.png
    """
    from seqgen.pipeline.evaluate import evaluate as recompute
    from seqgen.pipeline.evaluate import with_map

    found = recompute(_study(protocol), design_path)
    if b0_offsets_hz or b1_scales or plot is not None:
        found = with_map(found, _Console(as_json), b0_offsets_hz, b1_scales, plot)
    _print(as_json, found.to_json(), found.text(members=members))
    found.require()


@main.command()
@_PROTOCOL
@click.option(
    "--design",
    "design_path",
    type=click.Path(path_type=Path),
    help="Design file; without it the plain sequence is built with the echo times of the protocol.",
)
@_VOXEL_FROM
@_output("Folder for the .seq files.", ".")
@_JSON
def build(protocol: Path, design_path: Path | None, voxel_from: Path | None, output: Path, as_json: bool) -> None:
    """Build the sequence of PROTOCOL as .seq files, in Pulseq 1.5.0 and (name ending in _141) 1.4.1 form.

    Every file is read back, compared with what was built, and checked against the scanner's limits before it gets its
    name: a file above a limit is not written, nor one of a design that breaks a limit of PROTOCOL.

    \b
    Example:
      seqgen build protocols/phantom_glu_gln_3t.yaml --design design.json -o scan_files
    """
    from seqgen.design.artefact import load_design
    from seqgen.pipeline.build import build_edited, build_plain

    console = _Console(as_json)
    if design_path is None:
        built = build_plain(_placed(_scan_study(protocol), voxel_from, console), None, output)
    else:
        study = _placed(_study(protocol), voxel_from, console)
        built = build_edited(study, load_design(design_path), design_path, output)
    sizes = [path.stat().st_size for path in built.paths]
    files = [str(path) for path in built.paths]
    lines = [f"{name} ({size / 1e3:.0f} kB)" for name, size in zip(files, sizes, strict=True)]
    _print(
        as_json,
        {"files": files, "bytes": sizes, "notes": list(built.notes)},
        "\n".join([*built.notes, *lines]),
    )


@main.command("voxel-mask")
@click.argument("source", metavar="PROTOCOL|SEQ|NIFTI", type=click.Path(path_type=Path))
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="Write the mask on the grid of this image (NIfTI).  [default: a box]",
)
@_output("Mask (.nii.gz or .nii).")
@_JSON
def voxel_mask(source: Path, like: Path | None, output: Path, as_json: bool) -> None:
    """Write the voxel of a protocol, a .seq or a NIfTI-MRS file as a NIfTI mask, to lay over an image.

    With --like, each element of the image's grid gets the part of it that lies inside the voxel, 0 to 1; without, the
    file has one element that is the voxel itself. Coordinates are the scanner's (mm, right-anterior-superior), gradient
    axes x, y, z taken for R, A, S: compare with your scanner before you rely on it. --voxel-from of build and run is
    the way back.

    \b
    Example:
      seqgen voxel-mask press_edited.seq --like t1.nii.gz -o voxel.nii.gz
    """
    from seqgen.pipeline.voxel import make_mask, voxel_json, voxel_text

    found, part = make_mask(source, output, like)
    text = [
        voxel_text(found),
        *([f"{1 - part:.1%} of the voxel lie outside {like}"] if part < 0.995 else []),
        str(output),
    ]
    _print(as_json, {"mask": str(output), **voxel_json(found), "part_inside_image": part}, "\n".join(text))


@main.command()
@click.argument("seq", type=click.Path(path_type=Path))
@click.option("--scanner", help="Scanner profile: a name of the table, or the path of a .yaml profile of your own.")
@click.option("--protocol", type=click.Path(path_type=Path), help="Take scanner and pulse limits from this protocol.")
@click.option("--crushers", metavar="METABOLITE", help="Judge the crushers too, by this metabolite of the protocol.")
@click.option(
    "--sample-extent-mm",
    "extent_mm",
    type=click.FloatRange(min=1),
    default=200.0,
    show_default=True,
    help="Edge of the box that the sample fills, for --crushers.",
)
@_JSON
def check(
    seq: Path, scanner: str | None, protocol: Path | None, crushers: str | None, extent_mm: float, as_json: bool
) -> None:
    """Check a .seq file on disk against the limits of a scanner.

    RF amplitude (uT), gradient amplitude (mT/m) and slew (T/m/s), rasters and dead times (us), readouts, signature.
    Slices are simulated and compared with the voxel that the file states (0.1 mm; their displacement at 2.35 ppm, H4 of
    Glu, is told). With --crushers, every coherence pathway of a metabolite is dephased by the gradients of the file
    over the sample (mm): unwanted ones must stay below 1e-3 of the echo (seconds to a minute). What could not be
    checked is said to be "not checked". Exit code 1 if a check fails.

    \b
    Example:
      seqgen check press_edited.seq --scanner siemens_prisma_3t
      seqgen check press_edited.seq --protocol my_study.yaml --crushers Glu
    """
    from seqgen import library
    from seqgen.errors import InputError
    from seqgen.pipeline.build import check_chain, check_crushers, check_file, checks_json
    from seqgen.verify.limits import NO_LICENCE

    if (scanner is None) == (protocol is None):
        raise InputError("Give either --scanner or --protocol: limits belong to a scanner, and none is assumed.")
    study = _scan_study(protocol) if protocol is not None else None
    profile = study.protocol.scanner if study is not None else library.scanner(str(scanner))
    checks = (
        check_file(seq, profile, None)
        if study is None
        else check_file(seq, profile, study.energy_max_hz2_s, study.exposure)
    )
    if study is not None:
        checks = (check_chain(study, seq), *checks)
    if crushers is not None:
        if study is None:
            raise InputError("--crushers needs --protocol: frequency, water shift and metabolites come from there.")
        checks = (*checks, check_crushers(study, seq, crushers, extent_mm * 1e-3))
    result = checks_json(seq, profile, checks)
    lines = [
        f"{row.status:12} {row.name:34} "
        f"{'' if row.value is None else format(row.value, '.5g'):>10} "
        f"{'' if row.limit is None else 'limit ' + format(row.limit, '.5g'):18} {row.unit:8} {row.note}".rstrip()
        for row in checks
    ]
    _print(as_json, {**result, "licence": NO_LICENCE}, "\n".join([*lines, NO_LICENCE]))
    if result["failed"]:
        sys.exit(EXIT_CHECK_FAILED)


@main.command()
@click.argument("protocol", metavar="PROTOCOL|SIMULATION", type=click.Path(path_type=Path))
@click.argument("seq", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="With SEQ: raw data (ISMRMRD, HDF5); the truth is written beside it as NAME_truth.json.  [default: raw.h5]  "
    "Without: FIDs (.npz).  [default: fids.npz]",
)
@_JSON
def simulate(protocol: Path, seq: Path | None, output: Path | None, as_json: bool) -> None:
    """Simulate the scan of SEQ on the sample of PROTOCOL, or, without SEQ, play the PRESS of a SIMULATION file.

    With SEQ, raw data are written as an open console would: the file is read back and played spin by spin; coils,
    noise, drift (Hz, rad), residual water, and errors of shifts (ppm), couplings and T2 come from the protocol.

    Without, the YAML file says `simulation: press`: ideal or shaped selective refocusing pulses (Hz, rad), echo times
    (ms), metabolites. The FIDs are noise-free, for comparison with another tool: an .npz with fid, names, dwell_s,
    f0_hz, reference_ppm (docs/simulate.md).

    \b
    Example:
      seqgen simulate protocols/phantom_glu_gln_3t.yaml press_edited.seq -o raw.h5
      seqgen simulate protocols/simulate_press_ideal.yaml -o fids.npz
    """
    from seqgen.errors import InputError
    from seqgen.simulation_file import simulation_kind

    kind = simulation_kind(protocol)
    if kind is None and seq is None:
        raise InputError(
            f"{protocol} is a protocol (it has no key 'simulation'), so the .seq file to simulate must be given: "
            f"`seqgen simulate {protocol} press.seq`. A file that is played without one says `simulation: press`."
        )
    if kind is not None and seq is not None:
        raise InputError(
            f"{protocol} says `simulation: {kind}`: it describes its own sequence and takes no .seq, but {seq} is "
            "given. Leave it out, or give the protocol that the .seq was built from."
        )
    if seq is None:
        _simulate_fids(protocol, output or Path("fids.npz"), as_json)
    else:
        _simulate_scan(protocol, seq, output or Path("raw.h5"), as_json)


def _simulate_scan(protocol: Path, seq: Path, output: Path, as_json: bool) -> None:
    """Simulate a scan and print what was written."""
    from seqgen.pipeline.scan import simulate_raw, truth_path

    truth = simulate_raw(_study(protocol), seq, output, _Console(as_json))
    _print(as_json, {"raw": str(output), **truth}, f"{output}\n{truth_path(output)}")


def _simulate_fids(simulation: Path, output: Path, as_json: bool) -> None:
    """Play a simulation file and print what was written."""
    from seqgen.pipeline.simulate import simulate_file

    made = simulate_file(simulation, output, _Console(as_json))
    n_samples = made.fid.shape[1]
    result = {
        "fids": str(output),
        "names": list(made.names),
        "n_samples": n_samples,
        "dwell_s": made.dwell_s,
        "f0_hz": made.spectrometer_frequency_hz,
        "reference_ppm": made.reference_ppm,
        "provenance": made.provenance.to_json(),
    }
    _print(as_json, result, f"{output}: {', '.join(made.names)}; {n_samples} samples of {made.dwell_s * 1e6:g} us")


@main.command()
@_PROTOCOL
@click.argument("seq", type=click.Path(path_type=Path))
@click.option("-m", "--metabolite", required=True, help="Metabolite of the sample, for example Glu.")
@click.option("--group", help="Its spin group, where there are several (an unknown name lists them).")
@click.option("--peak-ppm", type=float, help="Where the peak height is read, ppm.  [default: highest in the window]")
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, help="Most terms in the table.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Figure of the state over time, .png or .svg.")
@_JSON
def states(
    protocol: Path,
    seq: Path,
    metabolite: str,
    group: str | None,
    peak_ppm: float | None,
    count: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show the spin state that SEQ prepares, in product operators, and how near it comes to its bounds.

    The file is played to one spin group of the sample: terms at the echo, coherence of every proton, peak height,
    area and energy of the window, each with Sorensen's bound where there is one; what relaxation during long pulses
    (ms) changes. The figure shows the state from the excitation to the echo.

    \b
    Example:
      seqgen states protocols/phantom_glu_gln_3t.yaml press_edited.seq -m Glu -o states.png
    """
    from seqgen.pipeline.states import states as analyse

    made = analyse(_study(protocol), seq, metabolite, group, output=output, peak_ppm=peak_ppm, count=count)
    _print(as_json, made.to_json(), made.text if output is None else f"{made.text}\n{output}")


@main.command()
@_PROTOCOL
@click.argument("seq", type=click.Path(path_type=Path))
@_output("Basis set.", "basis.npz")
@click.option("--fsl-mrs", type=click.Path(path_type=Path), help="Also write the basis as a folder of FSL-MRS JSON.")
@_JSON
@_CONDITION
def basis(protocol: Path, seq: Path, output: Path, fsl_mrs: Path | None, as_json: bool, condition: int | None) -> None:
    """Simulate the metabolites of PROTOCOL through SEQ: the basis set of that very file, or of one of its conditions.

    \b
    Example:
      seqgen basis protocols/phantom_glu_gln_3t.yaml press_edited.seq -o basis.npz
    """
    from seqgen.mrs.basis import export_fsl_mrs
    from seqgen.pipeline.analyse import make_basis

    made = make_basis(_study(protocol), seq, output, _Console(as_json), condition=condition)
    if fsl_mrs is not None:
        export_fsl_mrs(made, fsl_mrs)
    result = {"basis": str(output), "metabolites": list(made.names), "te_s": made.te_s, "dwell_s": made.dwell_s}
    _print(as_json, result, f"{output}: {', '.join(made.names)}; TE {made.te_s * 1e3:.3f} ms")


@main.command()
@click.argument("raw", type=click.Path(path_type=Path))
@click.option("--seq", type=click.Path(path_type=Path), required=True, help="The .seq file that ran.")
@_output("NIfTI-MRS (.nii.gz or .nii); a water reference gets _water added to this name.")
@click.option(
    "--conjugate/--no-conjugate",
    default=False,
    show_default=True,
    help="Take the complex conjugate of the stored samples. The default is the sense of Siemens vendor data; for "
    "Pulseq scans it is not settled, so it is recorded in the header.",
)
@click.option(
    "--reference-ppm",
    type=float,
    help="Chemical shift at the spectrometer frequency, ppm. Default: what the .seq states, else 4.65 (recorded).",
)
@click.option(
    "--reference-set", type=int, help="Value of the Pulseq label SET at water references, where REF is not used."
)
@click.option(
    "--allow-unproven", is_flag=True, help="Accept a pair that cannot be proven because a signature is missing."
)
@_JSON
def convert(
    raw: Path,
    seq: Path,
    output: Path,
    conjugate: bool,
    reference_ppm: float | None,
    reference_set: int | None,
    allow_unproven: bool,
    as_json: bool,
) -> None:
    """Convert RAW (Siemens twix .dat or ISMRMRD .h5) of a Pulseq scan to NIfTI-MRS.

    Dwell time, echo time, TR and flip angle come from the .seq; voxel position and rotation from the raw data where
    they hold them. The pair is proven by the signature of the .seq that the raw data carry: the wrong .seq is refused.
    The FID starts at the sample nearest the echo. Nothing that an operator entered about a patient is copied.

    \b
    Example:
      seqgen convert meas.dat --seq press_edited.seq -o press.nii.gz
    """
    from seqgen.mrs.nifti import read_nifti_mrs
    from seqgen.pipeline.scan import convert_raw

    data_path, water = convert_raw(
        raw,
        seq,
        output,
        time=_now(),
        conjugate=conjugate,
        reference_ppm=reference_ppm,
        reference_set=reference_set,
        allow_unproven=allow_unproven,
    )
    data = read_nifti_mrs(data_path)
    own = data.header.get("seqgen", {})
    result = {
        "data": str(data_path),
        "water": None if water is None else str(water),
        "shape": list(data.fid.shape),
        "dims": list(data.dims),
        "dwell_s": data.dwell_s,
        "spectrometer_frequency_hz": data.spectrometer_frequency_hz,
        "reference_ppm": data.reference_ppm,
        "echo_time_s": data.header.get("EchoTime"),
        "repetition_time_s": data.header.get("RepetitionTime"),
        "samples_removed_before_echo": own.get("samples_removed_before_echo"),
        "pairing": own.get("pairing"),
        "conjugation": own.get("conjugation"),
    }
    lines = [f"{key:28} {value}" for key, value in result.items() if value is not None]
    _print(as_json, result, "\n".join(lines))


@main.command("sign-check")
@click.argument("raw", type=click.Path(path_type=Path))
@click.argument("seq", type=click.Path(path_type=Path))
@click.option(
    "--phantom-mm",
    type=float,
    nargs=3,
    metavar="R A S",
    help="Centre of the water bottle from the isocentre: right, anterior, superior, mm.",
)
@click.option(
    "--water-offset-hz",
    type=float,
    help="Water minus spectrometer frequency, Hz, where it was set on purpose (frequency raised by 80 Hz: -80).",
)
@click.option(
    "--allow-unproven", is_flag=True, help="Accept a pair that cannot be proven because a signature is missing."
)
@_JSON
def sign_check(
    raw: Path,
    seq: Path,
    phantom_mm: tuple[float, float, float] | None,
    water_offset_hz: float | None,
    allow_unproven: bool,
    as_json: bool,
) -> None:
    """Say which signs the interpreter gave to RF, receiver and gradients, from the scan RAW of a sign_check SEQ.

    Water tells whether waveform, carrier, phases and receiver have one sense; a bottle of cooking oil beside it, or a
    spectrometer frequency set off water (Hz), which sense each has; the place of the bottle (mm) where gradients
    point. What the data do not tell is "undecided". Exit code 1 if anything is not faithful (docs/sign_check.md).

    \b
    Example:
      seqgen sign-check meas.dat sign_check.seq --phantom-mm 20 -35 60
    """
    from seqgen.mrs.sign_verdict import sign_check_json, sign_check_text
    from seqgen.pipeline.sign_check import check_signs

    found = check_signs(
        raw,
        seq,
        displacement_m=None if phantom_mm is None else tuple(1e-3 * value for value in phantom_mm),
        water_offset_hz=water_offset_hz,
        allow_unproven=allow_unproven,
    )
    _print(as_json, sign_check_json(found), sign_check_text(found))
    if found.unfaithful:
        sys.exit(EXIT_CHECK_FAILED)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@_output("Processed spectrum (NIfTI-MRS).", "processed.nii.gz")
@click.option(
    "--water-shift-ppm",
    type=float,
    help="Chemical shift of water, ppm (4.65 at 37 C, near 4.80 at 20 C). Default: the shift at zero frequency.",
)
@_JSON
@_CONDITION
def process(data: Path, output: Path, water_shift_ppm: float | None, as_json: bool, condition: int | None) -> None:
    """Process transients to one spectrum, with the water reference NAME_water.nii.gz beside DATA where there is one.

    Coil combination, rejection of outliers, frequency and phase correction, averaging, eddy-current correction,
    removal of residual water; every step is recorded in the header. A quality record is written as NAME_quality.json.

    \b
    Example:
      seqgen process press.nii.gz -o processed.nii.gz
    """
    from seqgen.mrs.nifti import read_nifti_mrs
    from seqgen.mrs.process import ProcessSettings
    from seqgen.pipeline.analyse import process_data

    shift = read_nifti_mrs(data).reference_ppm if water_shift_ppm is None else water_shift_ppm
    quality = process_data(data, output, ProcessSettings(water_shift_ppm=shift), time=_now(), condition=condition)
    text = (
        f"{output}: {quality['transients_used']} of {quality['transients_total']} transients, coils by "
        f"{quality['coil_combination']}, eddy-current correction "
        f"{'yes' if quality['eddy_current_correction'] else 'no'}"
    )
    _print(as_json, quality, text)


@main.command()
@_PROTOCOL
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--basis", "basis_path", type=click.Path(path_type=Path), required=True, help="Basis set of the .seq.")
@click.option("--seq", type=click.Path(path_type=Path), required=True, help="The .seq file that ran.")
@_output("Fit (JSON); concentrations are written beside it.", "fit.json")
@_JSON
def fit(protocol: Path, data: Path, basis_path: Path, seq: Path, output: Path, as_json: bool) -> None:
    """Fit the processed spectrum DATA with the basis of its own .seq and scale it by its water reference (mM).

    \b
    Example:
      seqgen fit my_study.yaml processed.nii.gz --basis basis.npz --seq press_edited.seq -o fit.json
    """
    from seqgen.pipeline.analyse import fit_data

    found = fit_data(_study(protocol), data, basis_path, seq, output)
    result = {"fit": str(output), "status": found.fit.status, "concentrations": found.concentrations}
    lines = [
        f"{name:8} {row['value_mm']:9.3f} +- {row['crlb_sd_mm']:.3f} mM" for name, row in found.concentrations.items()
    ]
    if not lines:
        lines = [
            f"{name:8} {value:12.5g} +- {sd:.3g} (no water reference: arbitrary unit)"
            for name, value, sd in zip(found.fit.names, found.fit.amplitudes, found.fit.crlb_sd, strict=True)
        ]
    _print(as_json, result, "\n".join([*lines, f"Fit: {found.fit.status}"]))


@main.command()
@_PROTOCOL
@click.argument("folder", type=click.Path(path_type=Path))
@_JSON
def report(protocol: Path, folder: Path, as_json: bool) -> None:
    """Write FOLDER/report.html from the files of a run folder; files that do not belong together are refused.

    \b
    Example:
      seqgen report protocols/phantom_glu_gln_3t.yaml runs/phantom_glu_gln_3t
    """
    from seqgen.pipeline.folder import RunFolder
    from seqgen.pipeline.report import make_report

    path = make_report(_study(protocol), RunFolder(path=folder), _Console(as_json))
    _print(as_json, {"report": str(path)}, str(path))


@main.command()
@click.argument("name", default="phantom_glu_gln_3t")
@_output("File to write; an existing file is not overwritten.")
@_JSON
def init(name: str, output: Path, as_json: bool) -> None:
    """Write a protocol, a design or a simulation file to start from. NAME is one of those shipped with seqgen.

    \b
    Names:
      phantom_glu_gln_3t      phantom at 20 C, Siemens 3 T (123.2 MHz)     [default]
      phantom_glu_gln_3t_ge   phantom at 20 C, GE 3 T (127.7 MHz)
      invivo_glu_gln_3t       brain, Siemens 3 T
      invivo_glu_gln_3t_ge    brain, GE 3 T
      scan_press_3t           for build, a scan alone: PRESS; also scan_mega_press_3t, scan_steam_3t, scan_slaser_3t,
                              scan_isis_press_3t, scan_pulse_acquire_3t, scan_sign_check_3t, scan_press_47mt
      glu_gln_crlb_3t         for design by Cramer-Rao bounds
      sweep_glu_gln_3t        for sweep: many designs; writes the protocol that it varies beside it, if none is there;
                              also sweep_crlb_frontier_3t
      simulate_press_ideal    for simulate: PRESS of instantaneous pulses
      simulate_press_shaped   for simulate: PRESS with shaped selective pulses; their waveform is written beside it
      bench_citrate_dq        or another design (docs/designs.md and an unknown NAME list them): its protocol, and the
                              design beside it

    Beside a protocol lies its document (.md): solution or voxel, B1, shim and acceptance, scan order with minutes.

    \b
    Example:
      seqgen init invivo_glu_gln_3t -o my_study.yaml
    """
    from seqgen.pipeline.shipped import write_shipped

    written = write_shipped(name, output)
    result = {"protocol": str(output), "beside": [str(path) for path in written.beside]}
    files = ", ".join(map(str, (output, *written.beside)))
    _print(as_json, result, f"{files} written. {written.advice}")


@main.command()
@_JSON
def doctor(as_json: bool) -> None:
    """Say which versions are installed, which device will compute, and what is missing.

    \b
    Example:
      seqgen doctor --json
    """
    from seqgen.doctor import diagnosis

    found = diagnosis()
    lines = [f"{key:24} {value}" for key, value in found.items() if key != "missing"]
    missing = found["missing"]
    lines.append("Nothing is missing." if not missing else f"Missing: {', '.join(missing)}")
    _print(as_json, found, "\n".join(lines))
    if missing:
        sys.exit(EXIT_CHECK_FAILED)


if __name__ == "__main__":
    main()
