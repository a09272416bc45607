"""The routes of the sender's API, a file for each thing an operator has a hand on."""
