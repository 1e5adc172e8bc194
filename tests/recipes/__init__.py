"""Tests of the recipes against real servers, with kazoo and Curator at the same znodes, and with broken networks."""
