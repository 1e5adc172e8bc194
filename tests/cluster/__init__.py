"""Ensembles of real processes under faults."""
