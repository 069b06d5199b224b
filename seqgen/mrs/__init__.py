"""Spectroscopy data: NIfTI-MRS, conversion, processing, basis sets, fit."""
