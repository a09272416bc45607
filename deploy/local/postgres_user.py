"""As whom PostgreSQL runs: it refuses to be root."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from deploy.local.children import Identity
from deploy.local.errors import StackError


def choose_identity(cluster: Path) -> Identity | None:
    """Decide who runs the server: root hands over to the data's owner, at first to ``nobody``."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and cluster.stat().st_uid != 0:
        return Identity(cluster.stat().st_uid, cluster.stat().st_gid)
    entry = pwd.getpwnam("nobody")
    return Identity(entry.pw_uid, entry.pw_gid)


def choose_prefix(identity: Identity | None, program: Path, root: Path) -> list[str]:
    """Decide how to give up root's identity where the other user cannot reach the binaries or the data.

    A checkout below a private home directory (``/root`` is 0700) is closed to ``nobody``. Its permissions are
    not ours to open, so the server keeps the one capability that lets it pass.
    """
    if identity is None or _can_reach(identity, [program, root]):
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            f"PostgreSQL does not run as root, and `nobody` cannot reach {root} or {program}:"
            " install util-linux (setpriv), work in a directory open to all, or set MILENA_DATABASE_URL."
        )
    caps = "+dac_override"
    identity_options = [f"--reuid={identity.uid}", f"--regid={identity.gid}", "--clear-groups"]
    return [
        setpriv,
        *identity_options,
        f"--inh-caps={caps}",
        f"--ambient-caps={caps}",
        "--pdeathsig=INT",
        "--",
    ]


def _can_reach(identity: Identity, paths: list[Path]) -> bool:
    done = subprocess.run(
        ["sh", "-c", 'for path; do test -x "$path" || exit 1; done', "sh", *map(str, paths)],
        cwd="/",
        user=identity.uid,
        group=identity.gid,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
