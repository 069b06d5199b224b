"""What is installed, and what is missing."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from typing import Any

import torch

from seqgen.sequence.plugins import sequence_names


def diagnosis() -> dict[str, Any]:
    """Return versions, device and installed sequences and data; "missing" lists what is not there."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    missing = []
    names = [
        re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0] for line in requires("seqgen") or () if "extra ==" not in line
    ]
    for name in ["seqgen", *names]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
            missing.append(name)
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU (no CUDA device found)"
    found["cores"] = os.cpu_count()
    found["sequences"] = ", ".join(sequence_names())
    for package in ("seqgen_data", "seqgen_protocols"):
        tables = sorted(item.name for item in files(package).iterdir() if item.name.endswith(".yaml"))
        found[package] = ", ".join(tables)
        if not tables:
            missing.append(package)
    if not sequence_names():
        missing.append("sequences (entry points seqgen.sequences)")
    found["missing"] = missing
    return found
