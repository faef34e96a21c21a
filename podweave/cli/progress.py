"""What a person sees while a command works."""

from __future__ import annotations

import time

from ..program import errors


class Progress:
    """One status line on a terminal; elsewhere, a line for each step that comes more than a second after the last."""

    def __init__(self) -> None:
        spinner = "dots" if errors.encoding.startswith("utf") else "line"
        self._status = errors.status("", spinner=spinner) if errors.is_terminal else None
        self._shown = 0.0

    def __call__(self, text: str) -> None:
        if self._status:
            self._status.update(text)
        elif time.monotonic() - self._shown > 1:
            errors.print(text, highlight=False, markup=False)
            self._shown = time.monotonic()

    def pause(self) -> None:
        """Leave the terminal to something else, until `resume`."""
        if self._status:
            self._status.stop()

    def resume(self) -> None:
        if self._status:
            self._status.start()

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()
