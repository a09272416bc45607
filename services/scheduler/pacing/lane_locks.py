"""The order in which lanes are locked: by id, as whoever hands out takes them (store.py)."""


def lock_lanes(mails: str) -> str:
    """`locked` (id): the lanes of `mails`, for a statement that counts them anew and is to join it.

    A plan updates rows in whatever order suits it, and two that have several lanes in common would wait for each other.
    """
    return f"""
    locked AS MATERIALIZED (
        SELECT id FROM scheduler.bulk_lane WHERE id IN (SELECT lane FROM {mails}) ORDER BY id FOR UPDATE)"""
