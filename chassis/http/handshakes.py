"""Keeping clients from beginning to connect, while those who have begun are let in.

A client that the kernel has connected when the last process closes the listening socket is reset,
though it may have sent its request. So before that end new clients are not let in any more. Their
next try, a second later, meets a closed port: they are refused, and know that nothing was sent.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Any

# Of Linux: a program of the classic Berkeley Packet Filter for what arrives at a socket.
_SO_ATTACH_FILTER = 26
# Drop segments of TCP with SYN and without ACK, whose flags are in byte 13; let all others pass.
_PROGRAM = (
    (0x30, 0, 0, 13),  # load a byte
    (0x54, 0, 0, 0x12),  # and SYN | ACK
    (0x15, 0, 1, 0x02),  # unless equal to SYN, skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def turn_away(listener: Any) -> bool:
    """Let nobody begin to connect to a listening socket, in all processes that share it.

    Returns:
        Whether the system does so: Linux does, for TCP.
    """
    address = listener.getsockname()
    if sys.platform != "linux" or not isinstance(address, tuple):
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _PROGRAM))
    option = struct.pack("HP", len(_PROGRAM), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError:  # a sandbox forbids it
        return False
    return True
