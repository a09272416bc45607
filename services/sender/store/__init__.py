"""Every SQL statement of the sender."""

from services.sender.store.ledger import DECIDED, DUE, DUE_TESTS, LEASE, Found, SenderStore
from services.sender.store.partitions import PartitionStore, Suspect, Verdict
from services.sender.store.pauses import Pause, PauseStore
from services.sender.store.suppressions import Suppression, SuppressionStore
from services.sender.store.unknown import Filter, HeldMail, UnknownStore
from services.sender.store.waiting import Waiting, WaitingStore

__all__ = [
    "DECIDED",
    "DUE",
    "DUE_TESTS",
    "LEASE",
    "Filter",
    "Found",
    "HeldMail",
    "PartitionStore",
    "Pause",
    "PauseStore",
    "SenderStore",
    "Suppression",
    "SuppressionStore",
    "Suspect",
    "UnknownStore",
    "Verdict",
    "Waiting",
    "WaitingStore",
]
