"""`seqgen check --crushers`: a file's crushers judged by the pathways of a metabolite."""

import json

import pytest
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.errors import InputError
from seqgen.pipeline.build import build_plain, check_crushers
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.simulate.pathways import moments_between_centres


@pytest.fixture(scope="module")
def plain_file(study, tmp_path_factory):
    return build_plain(study, None, tmp_path_factory.mktemp("plain")).paths[0]


def test_crushers_of_a_press_are_enough(study, plain_file):
    row = check_crushers(study, plain_file, "Glu", 0.1)
    assert (row.name, row.status, row.limit) == ("crushers (Glu)", "passed", 1e-3)
    # A box of length L dephased by K cycles/m leaves 1/(pi K L) of what is at its ends: far below the limit here.
    smallest = float(moments_between_centres(shots(read_seq(plain_file))[-1].timeline)[1:].abs().amax(1).min())
    assert 0 < row.value < 1 / (3.14 * smallest * 0.1)
    assert "homogeneous sample" in row.note


def test_a_short_sample_is_not_dephased(study, plain_file):
    """A millimetre holds a cycle or two: nothing is crushed, and the check says so."""
    row = check_crushers(study, plain_file, "Glu", 1e-3)
    assert row.status == "failed"
    assert row.value > row.limit


def test_an_unknown_metabolite_is_refused(study, plain_file):
    with pytest.raises(InputError, match=r"has no metabolite 'Xyz'\. Its sample holds"):
        check_crushers(study, plain_file, "Xyz", 0.1)


def test_from_the_command_line(study, plain_file):
    call = ["check", str(plain_file), "--protocol", str(study.path), "--crushers", "Glu", "--sample-extent-mm", "100"]
    result = CliRunner().invoke(main, [*call, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["checks"][-1]["name"] == "crushers (Glu)"
    alone = CliRunner().invoke(main, ["check", str(plain_file), "--scanner", "siemens_prisma_3t", "--crushers", "Glu"])
    assert alone.exit_code == 2
    assert "--crushers needs --protocol" in alone.output
