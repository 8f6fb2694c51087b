"""When the garbage collector looks, and at which objects.

All that a process imports stays until its end. A collector that looks through it finds nothing:
while modules are loaded that is a tenth of the start, and later a seventh of an import's CPU. In
a process that was forked, to look at an object is to copy its page.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Look for no garbage, while modules are loaded."""
    gc.disable()


def spare_loaded() -> None:
    """Leave out, for good, all objects that there are."""
    gc.freeze()


def resume() -> None:
    """Look for garbage again, but not in what was loaded meanwhile."""
    spare_loaded()
    gc.enable()


def prepare_fork() -> None:
    """Share what is loaded with the processes to be forked, which look for their own garbage."""
    gc.collect()  # what is garbage now would be spared, and shared, as well
    resume()
