"""A terminal for a command: what is typed, and what is shown."""

from __future__ import annotations

import os
import pty
import select

from tests.cli.conftest import Tool, until


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, tool: Tool, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        self.process = tool.start(
            *arguments,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text has been shown."""

        def seen() -> bool:
            if select.select([self.master], [], [], 0)[0]:
                try:
                    self.shown += os.read(self.master, 4096).decode("utf-8", "replace")
                except OSError:
                    pass
            return text in self.shown

        try:
            until(seen, f"{text!r} is shown")
        except AssertionError as error:
            error.add_note(f"shown: {self.shown!r}")
            raise

    def close(self) -> int:
        code = self.process.wait(20)
        os.close(self.master)
        return code
