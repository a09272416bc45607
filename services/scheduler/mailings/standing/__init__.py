"""How mailings stand, and who got them: what is told while one runs, and afterwards."""
