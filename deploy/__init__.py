"""How Milena is run: on one machine (``deploy.local``) and on real servers."""
