"""The scheduler: keeps mail until its time has come, and gives it back to `email.requested` then (R1, R6)."""
