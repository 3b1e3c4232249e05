"""A call that runs beside the caller."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A call in a thread of its own, which the process does not wait for at its end.

    On the bare `_thread`: `concurrent.futures` takes long to load, and `threading.Thread.start` to return, since it
    waits until the new thread has had its turn.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._running = _thread.allocate_lock()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 # it is the caller's, who gets it from `result`
            self._error = error
        finally:
            self._running.release()

    def wait(self) -> None:
        """Until the call has ended, well or not."""
        with self._running:
            pass

    def result(self) -> Result:
        """What the call returned, or raised, once it has ended."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]
