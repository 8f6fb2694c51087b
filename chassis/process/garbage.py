"""The garbage collector: when it runs, and which objects it looks at.

All imported modules stay until the process ends, so a collector that looks through them finds
nothing. The search takes a tenth of the start, and later a seventh of the CPU of a CSV import. In
a forked process, a look at an object copies its page.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Switch the collector off while modules are loaded."""
    gc.disable()


def spare_loaded() -> None:
    """Exempt all objects that exist now, for good."""
    gc.freeze()


def resume() -> None:
    """Switch the collector on again, with all objects that exist now exempt."""
    spare_loaded()
    gc.enable()


def prepare_fork() -> None:
    """Share loaded modules with the processes to be forked, which collect only later objects."""
    gc.collect()  # else garbage would be exempt, and shared, as well
    resume()
