"""Files that are cut off, corrupt or meant to do harm: one InputError, never a hang, never another exception."""

import hashlib
import random
import time
from pathlib import Path

import pytest

from seqgen.errors import InputError
from seqgen.seqfile.reader import read_seq, shots

BODY = """# Pulseq sequence file
[VERSION]
major 1
minor 5
revision 0

[DEFINITIONS]
AdcRasterTime 1e-07
B0 2.89
BlockDurationRaster 1e-05
GradientRasterTime 1e-05
RadiofrequencyRasterTime 1e-06
TotalDuration 0.0511

[BLOCKS]
1 110 1 1 0 0 0 0
2 5000 0 0 2 0 1 1

[RF]
1 250 1 2 0 500 100 0 0 0 0 e

[GRADIENTS]
2 1000 0 0 3 0 0

[TRAP]
1 1000 10 1000 10 0

[ADC]
1 1024 10000 10 0 0 0 0 0

[EXTENSIONS]
1 1 1 2
2 2 1 0

extension LABELSET 1
1 5 AVG

extension LABELINC 2
1 1 REF

[SHAPES]

shape_id 1
num_samples 1000
1
0
0
997

shape_id 2
num_samples 1000
0
0
998

shape_id 3
num_samples 5
0
1
2
1
0
"""


def signed(body: str) -> str:
    return f"{body}\n[SIGNATURE]\n# a comment\nType md5\nHash {hashlib.md5(body.encode()).hexdigest()}\n"


def check(path: Path, content: bytes | str) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    shots(read_seq(path))


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.seq"
    path.write_text(signed(BODY))
    seq = read_seq(path)
    assert seq.signature == hashlib.md5(BODY.encode()).hexdigest()
    assert seq.total_duration_s == 0.0511
    assert shots(seq)[0].labels == {"AVG": 5, "REF": 1}
    path.write_text(BODY)
    assert read_seq(path).signature is None


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_windows_line_ends_keep_a_signature(tmp_path: Path, line_end: str) -> None:
    """PyPulseq on Windows signs the text and stores it with other line ends; other tools sign the bytes."""
    path = tmp_path / "windows.seq"
    path.write_bytes(signed(BODY).replace("\n", "\r\n").encode())
    assert read_seq(path).signature == hashlib.md5(BODY.encode()).hexdigest()
    body = BODY.replace("\n", line_end)
    path.write_bytes(signed(body).replace(line_end, "\n").replace("\n", line_end).encode())
    assert read_seq(path).signature in (hashlib.md5(body.encode()).hexdigest(), hashlib.md5(BODY.encode()).hexdigest())


@pytest.mark.parametrize("name", ["06_PRESS_center", "02_FID_MFA"])
def test_a_scanners_file_cut_anywhere_is_refused(shared: Path, tmp_path: Path, name: str) -> None:
    content = (shared / f"data/raw/1_pulseq_press_center/{name}.seq").read_bytes()
    refuses_every_cut(tmp_path / "cut.seq", content, [len(content) * k // 100 for k in range(100)])


def test_a_small_file_cut_at_every_byte_is_refused(tmp_path: Path) -> None:
    content = signed(BODY.replace("TotalDuration 0.0511\n", "")).encode()
    refuses_every_cut(tmp_path / "cut.seq", content, list(range(len(content) - 1)))


def refuses_every_cut(path: Path, content: bytes, sizes: list[int]) -> None:
    """Only a cut that takes nothing but the signature (and empty lines before it) may pass."""
    body = content[: content.rindex(b"\n[SIGNATURE]")].rstrip()
    begin = time.perf_counter()
    for size in sizes:
        cut = content[:size]
        if len(body) < size and b"[" not in cut[len(body) :] and cut.endswith(b"\n"):
            path.write_bytes(cut)
            assert read_seq(path).signature is None
            continue
        with pytest.raises(InputError):
            check(path, cut)
    assert time.perf_counter() - begin < 20


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minor 5", "minor 6", "format 1.6.0 is not read"),
        ("[VERSION]\nmajor 1\nminor 5\nrevision 0\n", "", "does not state its version"),
        ("major 1\n", "", "major is missing"),
        ("AdcRasterTime 1e-07\n", "", "AdcRasterTime is missing"),
        ("BlockDurationRaster 1e-05\n", "", "BlockDurationRaster is missing"),
        ("GradientRasterTime 1e-05\n", "", "GradientRasterTime is missing"),
        ("RadiofrequencyRasterTime 1e-06\n", "", "RadiofrequencyRasterTime is missing"),
        ("GradientRasterTime 1e-05", "GradientRasterTime 0", "between 1 ns and 10 ms"),
        ("B0 2.89", "B0 2.89\nB0 3", "B0 is defined twice"),
        ("TotalDuration 0.0511", "TotalDuration 0.06", "blocks last 0.0511"),
        ("TotalDuration", "RequiredExtensions ROTATIONS\nTotalDuration", "ROTATIONS"),
        ("1 110 1 1 0 0 0 0", "1 110 7 1 0 0 0 0", r"line 16 \(\[BLOCKS\]\): RF pulse 7 is used but not defined"),
        ("1 110 1 1 0 0 0 0", "1 110 1 9 0 0 0 0", "gradient 9 is used"),
        ("1 110 1 1 0 0 0 0", "1 110 1 1 0 0 0", "needs 8 numbers"),
        ("1 110 1 1 0 0 0 0", "1 109 1 1 0 0 0 0", "lasts until 1100 us, but block 1 ends at 1090 us"),
        ("1 110 1 1 0 0 0 0", "2 110 1 1 0 0 0 0", "same number"),
        ("1 110 1 1 0 0 0 0", "1 1e99 1 1 0 0 0 0", "whole number"),
        ("2 5000 0 0 2 0 1 1", "2 5000 0 0 2 0 1 3", "extension list 3 is used"),
        ("1 250 1 2 0", "1 nan 1 2 0", "the amplitude must be finite"),
        ("1 250 1 2 0", "1 inf 1 2 0", "the amplitude must be finite"),
        ("1 250 1 2 0", "1 x 1 2 0", "must be a number"),
        ("1 250 1 2 0", "1 250 8 2 0", "shape 8, which is not defined"),
        ("1 250 1 2 0", "1 250 1 3 0", "1000 magnitudes but 5 phases"),
        ("1 250 1 2 0", "1 250 3 0 3", "must ascend"),
        ("500 100 0 0 0 0 e", "5000 100 0 0 0 0 e", "centre of pulse 1 lies outside"),
        ("500 100 0 0 0 0 e", "500 -1 0 0 0 0 e", "delay of pulse 1 is negative"),
        ("500 100 0 0 0 0 e", "500 100 0 0 0 0 q", "use of pulse 1"),
        ("500 100 0 0 0 0 e", "500 100 0 0 0 0", "needs 12 values, but has 11"),
        ("2 1000 0 0 3 0 0", "1 1000 0 0 3 0 0", "gradient 1 is defined twice"),
        ("2 1000 0 0 3 0 0", "2 1000 0 0 3 -3 0", "whole number from -1"),
        ("1 1000 10 1000 10 0", "1 1000 -10 1000 10 0", "times that are not negative"),
        ("1 1024 10000 10", "1 1024 0 10", "positive dwell time"),
        ("1 1024 10000 10", "1 99999999 10000 10", "whole number from 1"),
        ("1 1024 10000 10 0 0 0 0 0", "1 1024 10000 10 0 0 0 0 2", "modulates the receiver"),
        ("1 1 1 2\n2 2 1 0", "1 1 1 2\n2 2 1 1", "runs in a circle"),
        ("1 1 1 2\n2 2 1 0", "1 1 1 2\n2 2 1 7", "leads to nothing"),
        ("1 1 1 2\n2 2 1 0", "1 1 4 2\n2 2 1 0", "LABELSET number 4, which is not defined"),
        ("extension LABELINC 2\n1 1 REF", "extension DELAYS 2\n1 0 1000 1 TE", "DELAYS, which changes what is played"),
        ("extension LABELINC 2\n1 1 REF", "extension TRIGGERS 2\n1 2 1 0 100", "TRIGGERS, which changes"),
        ("1\n0\n0\n997", "1\n0\n0\n996", "must have 1000 samples, but unpacks to 999"),
        ("1\n0\n0\n997", "1\n0\n0\n1e9", "no valid count"),
        ("1\n0\n0\n997", "1\n0\n0", "no valid count"),
        ("1\n0\n0\n997", "1\n0\n0\n0.5", "no valid count"),
        ("shape_id 2\nnum_samples 1000", "shape_id 2\nnum_samples 4000000000", "num_samples must be a whole number"),
        ("shape_id 2", "shape_id 1", "shape 1 is defined twice"),
        ("[TRAP]", "[RF]", "appears twice"),
        ("[TRAP]", "[TRAPS]", "unknown section"),
        ("# Pulseq", "Pulseq", "stands before any section"),
        ("AVG", "avg", "a name in capitals"),
        ("B0 2.89", "B0 2.89 \u00b5", "not ASCII text"),
        ("B0 2.89", "B0 2.89\x00", "byte 0x00"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert BODY.count(old) >= 1
    with pytest.raises(InputError, match=message) as error:
        check(tmp_path / "bad.seq", BODY.replace(old, new, 1))
    assert "bad.seq" in str(error.value)


def test_the_signature_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "changed.seq"
    with pytest.raises(InputError, match="changed or damaged"):
        check(path, signed(BODY).replace("1 250 1 2", "1 251 1 2"))
    with pytest.raises(InputError, match="after \\[SIGNATURE\\]"):
        check(path, signed(BODY) + "extension TRIGGERS 9\n")
    with pytest.raises(InputError, match="Type md5"):
        check(path, signed(BODY).replace("md5", "sha1"))


def test_what_is_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_seq(tmp_path / "missing.seq")
    with pytest.raises(InputError, match="no such file"):
        read_seq(tmp_path)
    for content, message in ((b"", "is empty"), (b"\n\n", "is empty"), (bytes(range(256)) * 9, "not ASCII")):
        with pytest.raises(InputError, match=message):
            check(tmp_path / "x.seq", content)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Shapes, pulses and shots that would unpack to gigabytes are refused before they do."""
    flat = "".join(f"\nshape_id {k}\nnum_samples 4000000\n0\n0\n3999998\n" for k in range(4, 40))
    with pytest.raises(InputError, match="samples in all"):
        check(tmp_path / "shapes.seq", BODY + flat)
    long = BODY.replace("1 250 1 2 0", "1 250 4 4 5") + "\nshape_id 4\nnum_samples 2\n1\n1\n"
    with pytest.raises(InputError, match="lasts 4000000000 samples"):
        check(tmp_path / "pulse.seq", long + "\nshape_id 5\nnum_samples 2\n0\n4000000000\n")
    ramp = BODY.replace("1 110 1 1", "1 1000000000 1 1").replace("TotalDuration 0.0511\n", "")
    with pytest.raises(InputError, match="beyond any spectroscopy sequence"):
        check(tmp_path / "ramp.seq", ramp.replace("1 1000 10 1000 10 0", "1 1000 5000000000 10 10 0"))


def test_random_damage_gives_input_errors_only(tmp_path: Path) -> None:
    rng = random.Random(7)
    words = [
        "0",
        "1",
        "-1",
        "nan",
        "1e300",
        "99999999999999999999",
        "[RF]",
        "",
        "x",
        "2",
        "1000",
        "0.5",
        "\n",
        "1e-300",
    ]
    path = tmp_path / "fuzz.seq"
    refused = 0
    begin = time.perf_counter()
    for _ in range(600):
        parts = BODY.replace("TotalDuration 0.0511\n", "").split(" ")
        for _ in range(rng.choice((1, 1, 2, 5))):
            parts[rng.randrange(len(parts))] = rng.choice(words)
        try:
            check(path, " ".join(parts))
        except InputError:
            refused += 1
    assert refused > 400
    assert time.perf_counter() - begin < 30
