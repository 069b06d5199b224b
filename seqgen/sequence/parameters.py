"""Refusing parameters that a sequence cannot play."""

from collections.abc import Callable
from typing import Any

from seqgen.errors import InputError


def require(params: Any, name: str, holds: Callable[[Any], bool], what: str) -> None:
    """Refuse a parameter for which `holds` is false.

    Raises:
        InputError: "NAME must be WHAT, but is VALUE".
    """
    value = getattr(params, name)
    if not holds(value):
        raise InputError(f"{name} must be {what}, but is {value}. Change {name} in the sequence's parameters.")


def require_echo_time(name: str, te_s: float, least_s: float, sequence: str) -> None:
    """Refuse an echo time below its minimum.

    Raises:
        InputError: With the minimum.
    """
    if te_s < least_s - 1e-9:
        raise InputError(
            f"{name} must be at least {least_s * 1e3:.6g} ms (minimum of {sequence} with these pulses), but is "
            f"{te_s * 1e3:.6g} ms. Raise it, or shorten the pulses or crushers."
        )
