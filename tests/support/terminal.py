"""A terminal, as of a developer who looks at a process."""

from __future__ import annotations

import codecs
import os
import threading
import tty
from contextlib import suppress

# Runs a program that has the terminal which is its standard input.
ON_TERMINAL = (
    "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Terminal:
    """A terminal, and the text on it."""

    def __init__(self):
        self._master, self.device = os.openpty()
        tty.setraw(self.device)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # the last process that had it has ended
            while piece := os.read(self._master, 65_536):
                self.text += decoder.decode(piece)

    def close(self):
        os.close(self.device)
        self._reader.join()
        os.close(self._master)
