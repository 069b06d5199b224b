from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the project: other people's files and reference signals."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"no folder {path}: reference data of other tools and scanners are not at hand")
    return path


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    """Keep tests within the two cores they are written for, also when several workers share them."""
    torch.set_num_threads(1)
