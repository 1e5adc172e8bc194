"""`python -m tests.docs`: write the pages that are made from the code."""

from tests.docs.pages import write

write()
