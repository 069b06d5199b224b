import pytest

from seqgen.errors import InputError
from seqgen.provenance import Provenance, Source
from seqgen.report import tables

A, B, C, OTHER = "a" * 64, "b" * 64, "c" * 64, "d" * 64


def test_minimum_reporting_says_what_is_not_stated():
    table = tables.minimum_reporting_table({"vendor": "Siemens", "shimming": "  "})
    reported = {row[1]: row[2] for row in table.rows}
    assert reported["Vendor"] == "Siemens"
    assert [item for item, words in reported.items() if words != "not stated"] == ["Vendor"]
    headings = ["1 Hardware", "2 Acquisition", "3 Analysis", "4 Quality"]
    assert list(dict.fromkeys(row[0] for row in table.rows)) == headings


def test_minimum_reporting_refuses_unknown_items():
    with pytest.raises(InputError, match=r"no item vendr\..*field_strength, vendor"):
        tables.minimum_reporting_table({"vendr": "GE"})


def test_chain_names_every_source_and_the_seed():
    design = Provenance(made_from={"protocol": Source(name="p.yaml", sha256=A)}, seed=7, versions={})
    table = tables.provenance_table(
        [
            tables.Artefact(name="p.yaml", sha256=A, provenance=None),
            tables.Artefact(name="design.npz", sha256=B, provenance=design),
            tables.Artefact(name="first.bin", sha256=C, provenance=Provenance(versions={})),
        ]
    )
    assert table.rows == (
        ("p.yaml", A, "not stated"),
        ("design.npz", B, f"protocol: p.yaml ({A[:12]}…)\nseed: 7"),
        ("first.bin", C, "nothing (a first input)"),
    )


def test_broken_chain_is_marked():
    seq = Provenance(made_from={"design": Source(name="design.npz", sha256=OTHER)}, versions={})
    table = tables.provenance_table(
        [
            tables.Artefact(name="design.npz", sha256=B, provenance=None),
            tables.Artefact(name="press.seq", sha256=C, provenance=seq),
        ]
    )
    assert table.rows[1][2] == f"design: design.npz ({OTHER[:12]}…) - NOT the file of that name listed here"
