"""For a class that is compiled and that Python code subclasses all the same, as `corekit.testing` does.

mypyc looks for the decorator of `mypy_extensions`, which nobody needs to have while corekit runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**options):
        """Only mypyc heeds it."""
        return lambda decorated: decorated
