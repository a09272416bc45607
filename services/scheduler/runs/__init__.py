"""Runs: jobs, the runner that carries them out, what came of them."""
