"""Contacts: whom an account may write to, and what it knows of them."""
