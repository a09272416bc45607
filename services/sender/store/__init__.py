"""Every SQL statement of the sender."""

from services.sender.store.ledger import DUE, LEASE, Found, SenderStore
from services.sender.store.partitions import PartitionStore, Suspect, Verdict

__all__ = ["DUE", "LEASE", "Found", "PartitionStore", "SenderStore", "Suspect", "Verdict"]
