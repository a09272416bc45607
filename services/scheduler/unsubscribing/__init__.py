"""Unsubscribing from mailings (RFC 8058): links that only we can make, what they lead to, and who has used one."""
