"""Where one stack keeps its things."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile


@dataclass(frozen=True)
class DataPaths:
    """Everything below MILENA_DATA_DIR; all of it is private to the user."""

    root: Path

    @property
    def kafka(self) -> Path:
        """Kafka's configuration, log and data."""
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's log, socket and data."""
        return self.root / "postgres"

    @property
    def mail(self) -> Path:
        """Caught mail, one ``.eml`` a mail."""
        return self.root / "mail"

    @property
    def credentials(self) -> Path:
        """The secrets minted at the first start."""
        return self.root / "credentials.json"

    @property
    def record(self) -> Path:
        """What tools read to find everything."""
        return self.root / "stack.json"

    @property
    def api_environment(self) -> Path:
        """What API tools import to call the stack."""
        return self.root / "api-environment.json"

    @property
    def lock(self) -> Path:
        """Held, and filled with its process id, by the supervisor of a running stack."""
        return self.root / "stack.lock"

    @property
    def log(self) -> Path:
        """The output of a stack in the background."""
        return self.root / "stack.log"

    def create(self) -> None:
        """Create the directory. As root, others may pass through it (PostgreSQL's user does), not look into it."""
        self.root.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, as a whole: nobody ever reads half of it."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as fresh:
        fresh.write(text)  # created with mode 0600
        fresh.flush()
        os.fsync(fresh.fileno())
    Path(fresh.name).replace(path)
