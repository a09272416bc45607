"""Tasks: what they are, when they fall due, how that is told on `schedule.tick`."""
