"""Mail that waits for its time: kept, given back, shown, moved, cancelled (R6)."""
