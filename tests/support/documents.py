"""Runs what a page of the docs tells its reader to type, with a stack's own addresses in it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.settings import REPOSITORY, read_environment

_FENCE = re.compile(r"^```(\w+)( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = ("sh", "python")


def read_blocks(page: str, *sections: str) -> list[tuple[str, str]]:
    """(language, text) of each block that can be run: of the page, or of its sections of these names, in order."""
    text = (REPOSITORY / page).read_text()
    if sections:
        parts = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)}
        text = "\n".join(parts[name] for name in sections)
    return [(language, block) for language, no_run, block in _FENCE.findall(text) if language in _RUN and not no_run]


@dataclass
class Reader:
    """Somebody who types what stands there. `replaced`: what is different where he sits. `bin`: his own commands."""

    bin: Path
    python: Path
    env: Mapping[str, str]
    replaced: dict[str, str] = field(default_factory=dict)
    directory: Path = REPOSITORY

    def add_command(self, name: str, script: str) -> None:
        """Have a command that is not installed here."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def start(self, language: str, block: str) -> subprocess.Popen[str]:
        """Type it. The process leads a group of its own."""
        for old, new in self.replaced.items():
            block = block.replace(old, new)
        path = os.pathsep.join([str(self.bin), read_environment()["PATH"]])
        inherited = {name: value for name, value in read_environment().items() if not name.startswith("MILENA_")}
        command = [str(self.python), "-c", block] if language == "python" else ["bash", "-ec", block]
        return subprocess.Popen(
            command,
            env={**inherited, "PATH": path, **self.env},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, language: str, block: str, timeout_s: float = 60) -> str:
        """Type it and wait; gives what was printed. Fails where the command does."""
        with self.start(language, block) as process:
            out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{block}\n{out}\n{err}"
        return out


def own_python() -> Path:
    """The Python of this environment."""
    return Path(sys.executable)
