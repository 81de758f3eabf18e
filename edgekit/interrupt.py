"""Ctrl-C and SIGTERM that stop at once, also inside a run of ONNX Runtime.

Python runs signal handlers between bytecodes of the main thread, and `session.run` is one long call. The C-level
handler does write to a wakeup descriptor at once, though: a watcher thread reads it and sets `terminate` on the run
options in use; the run then returns with an error and the KeyboardInterrupt follows.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from weakref import WeakSet

_active: WeakSet[Any] = WeakSet()
_requested = threading.Event()


def requested() -> bool:
    """Whether the user has asked to stop."""
    return _requested.is_set()


def watch(run_options: Any) -> None:
    """Terminate runs that use these options when the user asks to stop."""
    _active.add(run_options)


def _raise(signum: int, frame: FrameType | None) -> None:
    _requested.set()
    raise KeyboardInterrupt


def _watch_wakeups(receiver: socket.socket) -> None:
    with receiver:
        while data := receiver.recv(16):
            if any(byte in (signal.SIGINT, signal.SIGTERM) for byte in data):
                _requested.set()
                for options in list(_active):
                    options.terminate = True


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, within a second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = {s: signal.signal(s, _raise) for s in (signal.SIGINT, signal.SIGTERM)}
    old_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch_wakeups, args=(receiver,), daemon=True, name="edgekit-interrupt")
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        sender.close()
        watcher.join()  # what it still reads must not count as asked for after this
        _requested.clear()
