"""The callback service: tells applications over HTTP what became of their mail (R13)."""
