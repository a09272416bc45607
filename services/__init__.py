"""The four services; they know nothing of one another."""
