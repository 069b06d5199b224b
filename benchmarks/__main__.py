"""`python -m benchmarks`: speed, memory and error of the spin engine beside the naive way and other simulators.

1. One epoch of a 200-step, 20 ms pulse for Glu and Gln: the engine and naive PyTorch, one point and 5 x 5 members.
2. The same epoch on MRSandbox (torch), one point.   3. A GRAPE evaluation on qutip-qtrl.   (both: extra "peers")
4. Localised PRESS: Glu at 41 x 41 positions, 20 metabolites at 16 x 16.
5. The kernel against this machine's matrix-product rate; cost against spins, members and RF samples.
6. The same code on a GPU, where there is one.
7. Building and writing 128 and 1024 averages of edited PRESS, beside plain PyPulseq.
8. One iteration of a design of the shipped protocols, beside every pulse at all its positions.
All on one thread. Times are CPU times of this process, ways taken in turns, the median counts; memory is the rise of
the process's peak over what it was before; errors are relative to the largest value and against exact steps.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import building, designing, epoch, gpu, localised, scaling
from benchmarks.measure import cpu_seconds, largest_error, machine, peak_mb, side_by_side
from benchmarks.peers import measure_fairly

GOALS = {
    "naive_ratio_1": ">= 8",
    "naive_ratio_25_c128": ">= 30, goal 60",
    "naive_ratio_25_c64": ">= 50, goal 100",
    "naive_memory_ratio_25": ">= 20",
    "time_ratio_20000_200": "<= 3",
    "mrsandbox_ratio": ">= 3",
    "qutip_ratio": ">= 3",
    "w2_glu_41_s": "< 0.09",
    "basis20_16_s": "< 2.5",
    "gemm_fraction": "aim 0.7",
    "build_ours_128_150_s": "< 1",
    "build_ours_128_141_s": "< 1",
    "build_ours_1024_150_s": "< 6",
    "build_ours_1024_141_s": "< 6",
}

Report = dict[str, Any]


def naive(quick: bool) -> Report:
    """Return item 1."""
    groups, b1_hz = epoch.models(), epoch.pulse()
    report: Report = {}
    ways = {n: (epoch.our_epoch(groups, n=n), epoch.naive_epoch(groups, n=n)) for n in (1, 25)}
    for name, n, n_samples in (("ours_peak_mb_25", 25, 200), ("peak_mb_200", 1, 200), ("peak_mb_20000", 1, 20000)):
        report[name] = peak_mb_of_ours(n, n_samples)
    ways[1][0](b1_hz)  # what is computed once and kept
    report["naive_peak_mb_25"], (seconds, exact) = peak_mb(lambda: cpu_seconds(lambda: ways[25][1](b1_hz)))
    if report["ours_peak_mb_25"] is not None:
        report["naive_memory_ratio_25"] = report["naive_peak_mb_25"] / report["ours_peak_mb_25"]
    naive_25 = [seconds] + [cpu_seconds(lambda: ways[25][1](b1_hz))[0] for _ in range(0 if quick else 2)]
    report["naive_25_s"] = sorted(naive_25)[len(naive_25) // 2]
    single = b1_hz.to(torch.complex64)
    ours = side_by_side(
        {"ours_25_c128_s": lambda _: ways[25][0](b1_hz), "ours_25_c64_s": lambda _: ways[25][0](single)}, repeats=5
    )
    one = {"ours_1_s": lambda _: ways[1][0](b1_hz), "naive_1_s": lambda _: ways[1][1](b1_hz)}
    report |= ours | side_by_side(one, repeats=3 if quick else 7)
    report["naive_ratio_1"] = report["naive_1_s"] / report["ours_1_s"]
    for kind in ("c128", "c64"):
        report[f"naive_ratio_25_{kind}"] = report["naive_25_s"] / report[f"ours_25_{kind}_s"]
    for name, found, expected in (
        ("1", ways[1][0](b1_hz), ways[1][1](b1_hz)),
        ("25_c128", ways[25][0](b1_hz), exact),
        ("25_c64", ways[25][0](single), exact),
    ):
        report[f"error_{name}"] = largest_error(found[0], expected[0])
        report[f"gradient_error_{name}"] = largest_error(found[1], expected[1])
    waveforms = {n: epoch.pulse(n) for n in (200, 2000, 20000)}
    by_samples = {f"ours_1_{n}_samples_s": partial(_again, ways[1][0], b1) for n, b1 in waveforms.items()}
    report |= side_by_side(by_samples, repeats=5)
    for n, b1 in waveforms.items():
        if n == 200 or not quick:
            report[f"error_{n}_samples"] = largest_error(ways[1][0](b1)[0], epoch.exact_amplitudes(groups, b1))
    report["time_ratio_20000_200"] = report["ours_1_20000_samples_s"] / report["ours_1_200_samples_s"]
    return report


def _again(way: epoch.Epoch, b1_hz: torch.Tensor, _turn: int) -> object:
    """Run a way once more, whatever turn it is."""
    return way(b1_hz)


def peak_mb_of_ours(n: int, n_samples: int) -> float | None:
    """Return how far the engine's epoch raises the memory of a fresh process that has imported and warmed up all."""
    code = (
        "import json, torch; torch.set_num_threads(1); from benchmarks import epoch, scaling; "
        "from benchmarks.measure import peak_mb; epoch.our_epoch([scaling.chain(2)])(epoch.pulse(20)); "
        f"run = lambda: epoch.our_epoch(epoch.models(), n={n})(epoch.pulse({n_samples})); "
        "print(json.dumps(peak_mb(run)[0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: float | None = json.loads(done.stdout)
    return result


def peers(quick: bool) -> Report:
    """Return items 2 and 3, from a process of its own (benchmarks/peers.py says why)."""
    missing = [name for name in ("mrsandbox", "qutip_qtrl") if importlib.util.find_spec(name) is None]
    if missing:
        return {
            "mrsandbox_ratio": None,
            "qutip_ratio": None,
            "peers": f"not measured: {', '.join(missing)} not installed (pip install -e '.[peers]')",
        }
    report: Report = dict(measure_fairly(3 if quick else 9))
    report["mrsandbox_ratio"] = report["epoch_mrsandbox_s"] / report["epoch_ours_s"]
    report["mrsandbox_float32_ratio"] = report["epoch_mrsandbox_float32_s"] / report["epoch_ours_s"]
    report["qutip_ratio"] = report["grape_qutip_s"] / report["grape_ours_s"]
    report["qutip_ratio_at_100_us"] = report["grape_qutip_s"] / report["grape_ours_100_us_s"]
    return report


def localisation(quick: bool) -> Report:
    """Return item 4: spin system to FID, everything counted but reading the tables."""
    found = localised.glutamate()
    basis = localised.basis()
    report: Report = side_by_side({"w2_glu_41_s": lambda _: localised.glutamate()}, repeats=3 if quick else 9)
    report |= side_by_side({"basis20_16_s": lambda _: localised.basis()}, repeats=1 if quick else 3)
    seconds, exact = cpu_seconds(localised.exact_glutamate)
    fine = localised.basis(5e-5) if quick else localised.exact_basis()
    report["w2_pulse"] = localised.pulse_name()
    report["w2_exact_steps_41_s"] = seconds
    report["w2_error"] = largest_error(found, exact)
    report["basis20_error"] = max(largest_error(a, b) for a, b in zip(basis, fine, strict=True))
    report["basis20_error_against"] = "J steps of 50 us" if quick else "exact steps"
    return report


def kernel(quick: bool, picture: Path | None) -> Report:
    """Return item 5."""
    found = scaling.costs(quick)
    if picture is not None:
        scaling.plot(found, picture)
    rate = scaling.gemm_rate()
    report: Report = {"gemm_gflops": rate / 1e9, "gemm_fraction": scaling.gemm_fraction(epoch.models()[0], 25, rate)}
    for n in (6, 7) if quick else (6, 7, 8):
        report[f"gemm_fraction_{n}_spins"] = scaling.gemm_fraction(scaling.chain(n), 1, rate, repeats=2)
    report |= scaling.errors(quick)
    return report | {f"cost_{name}_{n}_s": s for name, row in found.items() for n, s in row.items()}


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and points, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE, one flat object")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw cost against spins, members and RF samples")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: Report = dict(machine())
    parts = (
        ("1. beside the naive way", lambda: naive(arguments.quick)),
        ("2., 3. beside MRSandbox and QuTiP", lambda: peers(arguments.quick)),
        ("4. localised PRESS", lambda: localisation(arguments.quick)),
        ("5. the kernel", lambda: kernel(arguments.quick, arguments.plot)),
        ("6. on a GPU", lambda: gpu.compare(arguments.quick)),
        ("7. building and writing files", lambda: building.measure(quick=arguments.quick)),
        ("8. designing", lambda: designing.measure(quick=arguments.quick)),
    )
    for title, part in parts:
        print(title, flush=True)
        found = part()
        report |= found
        for name, value in found.items():
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"  {name:34} {shown}{f'   ({GOALS[name]})' if name in GOALS else ''}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
