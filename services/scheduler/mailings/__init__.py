"""Mailings: one content to an audience of contacts, or to an uploaded list, and what became of each.

`mailing`, `audience`, `variables` say what a mailing is (pure) · `store`, `audience_store` their statements.
"""
