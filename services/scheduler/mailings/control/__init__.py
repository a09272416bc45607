"""The hand on a mailing: start, pause, resume, cancel, retry."""
