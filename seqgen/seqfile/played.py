"""Built blocks as the reader would give them: so that a sequence can be simulated before it is a file."""

import hashlib
import math

import numpy as np

from seqgen.scanner import Scanner
from seqgen.seqfile import events
from seqgen.seqfile.blocks import Adc, Block, Gradient, Rf, SampledGradient
from seqgen.seqfile.shots import Shot, shots


def built_shots(blocks: tuple[Block, ...], scanner: Scanner, name: str) -> tuple[Shot, ...]:
    """Return the shots of built blocks, by the same conversion that a read file goes through."""
    made: dict[int, events.Block] = {}
    converted = []
    for number, block in enumerate(blocks, 1):
        if id(block) not in made:
            made[id(block)] = _block(number, block)
        converted.append(made[id(block)])
    return shots(
        events.SeqFile(
            name=name,
            sha256="",
            version=(1, 5, 0),
            definitions={},
            signature=None,
            rasters=events.Rasters(
                adc_s=scanner.adc_raster_s,
                block_s=scanner.block_raster_s,
                gradient_s=scanner.gradient_raster_s,
                rf_s=scanner.rf_raster_s,
            ),
            blocks=tuple(converted),
            total_duration_s=sum(block.duration_s for block in blocks),
        )
    )


def _block(number: int, block: Block) -> events.Block:
    """Return the typed block of a file."""
    rf = None if block.rf is None else _rf(block.rf)
    gradients = tuple(None if lobe is None or lobe.peak_hz_per_m == 0 else _gradient(lobe) for lobe in block.gradients)
    adc = None if block.adc is None else _adc(block.adc)
    parts = [f"{block.duration_s:.9f}", *(part.key if part is not None else "-" for part in (rf, *gradients, adc))]
    return events.Block(
        number=number,
        duration_s=block.duration_s,
        rf=rf,
        gradients=(gradients[0], gradients[1], gradients[2]),
        adc=adc,
        labels=tuple(events.LabelChange(name=n, value=v, increment=False) for n, v in block.labels.items()),
        key=" ".join(parts),
    )


def _rf(rf: Rf) -> events.RfEvent:
    """Return the RF event; a file's phase counts from the start of the shape, ours from the centre."""
    shape = rf.b1_hz.detach().numpy().astype(np.complex128)
    digest = hashlib.sha256(shape.tobytes()).hexdigest()[:16]
    return events.RfEvent(
        id=1,
        shape_hz=shape,
        dwell_s=rf.raster_s,
        delay_s=rf.delay_s,
        centre_s=rf.centre_s,
        frequency_hz=rf.frequency_hz,
        phase_rad=(rf.phase_rad - 2 * math.pi * rf.frequency_hz * rf.centre_s) % (2 * math.pi),
        use=rf.use,
        key=f"rf {digest} {rf.delay_s} {rf.frequency_hz} {rf.phase_rad} {rf.use}",
    )


def _gradient(lobe: Gradient) -> events.GradientEvent:
    """Return the gradient as corners of a polygon."""
    time_s, value = lobe.corners()
    time_s = time_s - lobe.delay_s
    if isinstance(lobe, SampledGradient):
        digest = hashlib.sha256(time_s.tobytes() + value.tobytes()).hexdigest()[:16]
        return events.GradientEvent(
            id=1,
            kind="sampled",
            delay_s=lobe.delay_s,
            time_s=time_s,
            value_hz_per_m=value,
            key=f"g {digest} {lobe.delay_s}",
        )
    if lobe.flat_s < 1e-12:
        time_s, value = np.delete(time_s, 2), np.delete(value, 2)
    return events.GradientEvent(
        id=1, kind="trapezoid", delay_s=lobe.delay_s, time_s=time_s, value_hz_per_m=value, key=repr(lobe)
    )


def _adc(adc: Adc) -> events.AdcEvent:
    return events.AdcEvent(
        id=1,
        n_samples=adc.n_samples,
        dwell_s=adc.dwell_s,
        delay_s=adc.delay_s,
        frequency_hz=adc.frequency_hz,
        phase_rad=adc.phase_rad,
        key=repr(adc),
    )
