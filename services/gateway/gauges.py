"""What the read model and the last reconcile tell, as metrics of the worker."""

from services.gateway.run_store import ReconciliationStore
from shared.metrics import OLDEST_WAITING_SECONDS, RECONCILE_AGE_SECONDS, RECONCILE_FAULTS, RECONCILED_MAILS


class Gauges:
    """Reads them anew whenever it is asked."""

    def __init__(self, store: ReconciliationStore) -> None:
        self._store = store
        for gauge in (RECONCILE_FAULTS, RECONCILE_AGE_SECONDS):
            gauge.set(float("nan"))

    async def refresh(self) -> None:
        """Raises DatabaseUnavailable; they stay as they were then."""
        OLDEST_WAITING_SECONDS.set(await self._store.find_longest_wait())
        last = await self._store.find_last()
        if last:
            RECONCILE_AGE_SECONDS.set(last["age_s"])
            RECONCILE_FAULTS.set(last["faults"])
            RECONCILED_MAILS.clear()
            for state, mails in last["states"].items():
                RECONCILED_MAILS.labels(state=state).set(mails)
