"""Recipes in worlds (`corekit.testing.world`): whole servers and clients in virtual time, with faults from a seed."""
