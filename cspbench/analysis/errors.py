"""Why a forward pass cannot be followed on shapes alone."""

from __future__ import annotations


class DataDependentError(Exception):
    """The forward pass asked for the value of an activation."""


class NoMetaKernelError(Exception):
    """An operator cannot tell its output's shape."""
