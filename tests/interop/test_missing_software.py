"""Software that is missing is never passed over in silence: skipped by name for people, a failure on a CI machine."""

from __future__ import annotations

import pytest

from tests.conftest import needs
from tests.support.servers import MissingSoftware, find_program, package_file


def test_missing_software_skips_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install Debian's package some-package"):
        needs(find_program, "no-such-program", "some-package")


def test_missing_software_fails_on_a_ci_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install Debian's package some-package"):
        needs(package_file, "some-package", "/no-such-file")


def test_what_is_installed_is_returned() -> None:
    assert needs(find_program, "sh", "dash").endswith("/sh")
    with pytest.raises(MissingSoftware):
        find_program("no-such-program", "some-package")
