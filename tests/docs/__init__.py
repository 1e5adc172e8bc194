"""Pages of `docs/` that are made from the code, and the test that runs what the others show.

`python -m tests.docs` writes them; the tests say when that is due.
"""
