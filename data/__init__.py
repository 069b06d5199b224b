"""Small tables with source: spin systems, tissue values, scanner profiles."""
