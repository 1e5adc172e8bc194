"""What `pyproject.toml` cannot say yet: the one module in C."""

from setuptools import Extension, setup

# Speed only: without a compiler or Python's headers the package is complete, and a Python thread does this work.
setup(
    ext_modules=[
        Extension(
            "corekit_storage_rocks._writer",
            ["plugins/storage_rocks/corekit_storage_rocks/_writer.c"],
            optional=True,
        )
    ]
)
