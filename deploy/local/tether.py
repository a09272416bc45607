"""Tie a command to its parent's life, then become it: ``tether.py PARENT SIGNAL UID GID COMMAND…``.

A script of its own, because Python code between fork and exec may deadlock in a process with threads.
UID and GID are ``-`` where the user stays the same.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Change the user where asked, ask the kernel for a signal at the parent's death (Linux), and exec."""
    parent, death_signal, uid, gid, *command = arguments
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        # After the change of user, which clears it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # the parent died before the kernel was asked
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the point of this script


if __name__ == "__main__":
    main(sys.argv[1:])
