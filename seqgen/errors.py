"""The errors seqgen raises: each says what, got, limit and remedy."""


class SeqgenError(Exception):
    """Base of every error that seqgen raises on purpose."""


class InputError(SeqgenError, ValueError):
    """An input (file, key, argument) cannot be used. The command line exits with 2."""


class HardwareLimitError(InputError):
    """A sequence or pulse asks for more than the named scanner or protocol allows. Nothing is written."""


class VerificationError(SeqgenError):
    """A check ran and failed: what was written is not what was asked. The command line exits with 1."""
