"""All that our commands load, loaded: what processes of tests are forked from (tests/support/preloaded.py)."""

import gc
import importlib
import threading

_SERVICES = ("gateway", "sender", "scheduler", "callback")

for _name in (
    *(f"services.{service}.{part}" for service in _SERVICES for part in ("api", "worker")),
    *("services.gateway.key_commands", "services.gateway.proving", "services.gateway.smtp"),
    *("services.sender.deciding", "services.sender.unknown_commands"),
    *("deploy.local.api", "shared.consuming", "shared.migrations", "shared.serving", "uvloop"),
):
    importlib.import_module(_name)
assert threading.active_count() == 1, "threads do not survive a fork"
gc.collect()
gc.freeze()
