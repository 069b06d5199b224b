"""Basis sets simulated from the very `.seq` file that was played."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seqgen.errors import InputError
from seqgen.mrs.basis import Basis
from seqgen.mrs.readouts import Readouts, describe_readouts, split_shots
from seqgen.provenance import Progress, Provenance
from seqgen.seqfile.cycle import editing_conditions, phase_cycle
from seqgen.seqfile.reader import SeqFile
from seqgen.seqfile.shots import shots
from seqgen.simulate.acquire import fid
from seqgen.simulate.molecule import molecule_lines
from seqgen.simulate.pathways import principal_echo
from seqgen.spin.system import SpinSystem
from seqgen.timeline import Timeline


def simulate_basis(
    seq: SeqFile,
    systems: Mapping[str, SpinSystem],
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    provenance: Provenance,
    condition: int | None = None,
    progress: Progress | None = None,
) -> Basis:
    """Simulate every metabolite through the metabolite shots of one editing condition of a file.

    Args:
        seq: The file.
        systems: Metabolites by name.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency (water), ppm.
        provenance: What the basis is made from.
        condition: Editing condition (label SET; in MEGA-PRESS 0 is ON and 1 OFF), for files with several.
        progress: Called after each metabolite.

    Raises:
        InputError: If the file has several editing conditions and none is chosen, or not that one.

    Returns:
        FIDs without relaxation and without linewidth, sampled as converted data are (from the sample nearest the echo).
    """
    all_shots = shots(seq)
    readouts = describe_readouts(seq, split_shots(all_shots, None)[0])
    conditions = editing_conditions(all_shots)
    if condition is None and len(conditions) > 1:
        raise InputError(
            f"{seq.name} plays editing conditions SET {', '.join(map(str, conditions))}, and a basis set belongs to "
            "one. Choose a condition."
        )
    cycle = phase_cycle(all_shots, condition=condition)
    columns = []
    for done, system in enumerate(systems.values(), 1):
        columns.append(
            simulate_fid(
                cycle,
                readouts,
                system,
                spectrometer_frequency_hz=spectrometer_frequency_hz,
                reference_ppm=reference_ppm,
            )
        )
        if progress is not None:
            progress(done, len(systems))
    return Basis(
        names=tuple(systems),
        fid=np.stack(columns, 1),
        dwell_s=readouts.dwell_s,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        reference_ppm=reference_ppm,
        te_s=principal_echo(cycle).te_s,
        seq_name=seq.name,
        condition=condition if len(conditions) > 1 else None,
        provenance=provenance,
    )


def simulate_fid(
    cycle: Sequence[Timeline],
    readouts: Readouts,
    system: SpinSystem,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
) -> NDArray[np.complex128]:
    """Return the undamped FID of one molecule at the sample times of converted data, shape (n_samples,).

    Args:
        cycle: The shots of one phase cycle.
        readouts: What the file says of their readouts; the samples that a conversion cuts are left out.
        system: The molecule.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency, ppm.
    """
    first_sample_s = cycle[0].readouts()[0][0] + (readouts.n_cut + 0.5) * readouts.dwell_s
    molecule = molecule_lines(
        cycle,
        system,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        reference_ppm=reference_ppm,
        time_zero_s=first_sample_s,
    )
    values: NDArray[np.complex128] = fid(molecule, readouts.n_samples - readouts.n_cut, readouts.dwell_s)[0].numpy()
    return values
