"""Networks swept in processes of their own: several at once, and one that dies takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from benchmarks.coverage.network import Options, sweep_network
from benchmarks.coverage.networks import millions, setting
from benchmarks.coverage.records import Network, Record, Results, code_state


class Listener(Protocol):
    """Who is told how far a sweep is."""

    def students(self, network: str, left: int) -> None:
        """So many students are left of a network."""

    def finished(self, network: str) -> None:
        """A network has no more to give."""


Running = dict[Connection, tuple[str, BaseProcess]]
"""Processes, and the network of each, by what they are heard through."""

BYTES_A_PARAMETER = 8 * 4
"""In float64: the module and a copy of its tensors, or the module and its student, and what is between."""


def sweep(
    networks: Sequence[str], options: Options, before: Results, folder: Path, count: int, listener: Listener
) -> Generator[Record, None, None]:
    """Records of all networks as they come, from at most `count` processes; memory permitting.

    Args:
        networks: in the order they are begun.
        options: what is wanted of each.
        before: what is known.
        folder: for temporary files.
        count: how many processes.
        listener: told the progress.
    """
    # The processes are forked from a clean one that has imported torch once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.coverage.network"])
    waiting, running = list(networks), Running()
    try:
        while waiting or running:
            if time.time() > options.deadline:
                waiting.clear()
            while waiting and len(running) < count and _fits(waiting[0], [name for name, _ in running.values()]):
                name = waiting.pop(0)
                here, there = context.Pipe(duplex=False)
                arguments = (there, name, options, before.only(name), folder)
                process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                there.close()
                running[here] = (name, process)
            for ready in wait(list(running)) if running else ():
                assert isinstance(ready, Connection)
                yield from _heard(ready, running, listener)
    finally:
        for _, process in running.values():
            process.terminate()


def _fits(name: str, others: Sequence[str]) -> bool:
    """Whether memory suffices for a network beside those that run; alone each may try."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = sum(millions(one) for one in (name, *others)) * 1e6 * BYTES_A_PARAMETER
    return not others or needed < 0.7 * memory


def _heard(ready: Connection, running: Running, listener: Listener) -> Iterator[Record]:
    """What a process has to say; a process that is at an end is taken out of those that run."""
    name, process = running[ready]
    try:
        message = ready.recv()
    except EOFError:
        del running[ready]
        ready.close()
        process.join()
        listener.finished(name)
        if process.exitcode:
            why = f"its process ended with {process.exitcode}"
            yield Network(name, setting(name).shape, failed=why, code=code_state())
        return
    if isinstance(message, int):
        listener.students(name, message)
    else:
        yield message


def _work(out: Connection, name: str, options: Options, before: Results, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that ends this one
    with TemporaryDirectory(dir=folder) as own:
        for record in sweep_network(name, Path(own), options, before, out.send):
            out.send(record)
    out.close()
