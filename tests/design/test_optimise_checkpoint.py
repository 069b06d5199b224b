"""Checkpoints that do not belong, or are no checkpoints."""

import numpy as np
import pytest
from test_optimise_descent import FREE, ID, STARTS, Counting, Killed, quadratic, rosenbrock, run

from seqgen.design.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from seqgen.design.descent import Evaluation
from seqgen.errors import InputError


@pytest.fixture
def path(tmp_path):
    """A search that was killed after its first start."""
    path = tmp_path / "design.checkpoint.npz"
    with pytest.raises(Killed):
        run(Counting(rosenbrock, 9), Checkpoint(path, ID, interval_s=0))
    return path


def test_it_lies_beside_the_design(tmp_path):
    assert checkpoint_path(tmp_path / "my.design.json") == tmp_path / "my.design.checkpoint.npz"


def test_what_is_read_is_what_was_written(path):
    checkpoint = load_checkpoint(path, ID)
    assert [descent.name for descent in checkpoint.finished] == ["one"]
    checkpoint.save()
    again = load_checkpoint(path, ID)
    for a, b in zip(checkpoint.record.evaluations, again.record.evaluations, strict=True):
        assert np.array_equal(a[0], b[0])
        assert a[1] == b[1]
        assert np.array_equal(a[2], b[2])
        assert (rosenbrock(a[0]).loss, rosenbrock(a[0]).gradient.tolist()) == (a[1], a[2].tolist())
    assert len(again.record) + len(again.finished[0].history) <= 9


def test_nothing_is_left_beside_it(path):
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    load_checkpoint(path, ID).remove()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("identity", "words"),
    [({"protocol": "cd" * 32, "seed": 1}, "another protocol: abab.* instead of cdcd"), (ID | {"seed": 2}, "seed: 1")],
)
def test_another_protocol_or_seed_is_refused(path, identity, words):
    with pytest.raises(InputError, match=words):
        load_checkpoint(path, identity)


def test_another_function_is_refused(path):
    with pytest.raises(InputError, match=r"holds a loss of .* written with other input files"):
        run(quadratic, load_checkpoint(path, ID))


def test_a_function_that_agrees_at_the_last_point_alone_is_refused_where_it_parts(path):
    """Losses agree to rounding, gradients do not: the record's next point is not where the descent goes."""
    checkpoint = load_checkpoint(path, ID)
    x, loss, gradient, terms = checkpoint.record.evaluations[0]
    checkpoint.record.evaluations[0] = (x, loss, 2 * gradient, terms)
    with pytest.raises(InputError, match=r"its evaluation . is at another point"):
        run(rosenbrock, checkpoint)


def test_other_starts_are_refused(path):
    moved = [("one", STARTS[0][1] + 0.1), *STARTS[1:]]
    with pytest.raises(InputError, match="its descent 'one' began at another point"):
        run(rosenbrock, load_checkpoint(path, ID), starts=moved)


def test_a_loss_in_the_last_digit_is_the_same_function(path):
    def rounded(x):
        found = rosenbrock(x)
        return Evaluation(loss=found.loss * (1 + 1e-12), gradient=found.gradient, terms=found.terms)

    assert run(rounded, load_checkpoint(path, ID), bounds=FREE).loss < 10


def test_a_file_cut_anywhere_is_refused_by_name(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"design\.checkpoint\.npz is not a readable checkpoint"):
            load_checkpoint(path, ID)


def test_other_arrays_are_refused_by_name(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, head=np.array('{"format": "seqgen design 1"}'))
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        load_checkpoint(path, ID)


def test_a_missing_one_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint .*c\.npz to resume from\. Start without --resume"):
        load_checkpoint(tmp_path / "c.npz", ID)
