"""Mailings: one content to an audience of contacts, or to an uploaded list, and what became of each.

`mailing`, `audience`, `variables`, `content` say what a mailing is, `defining` what may be one, `checking` what would
become of it, `testing` a test mail (pure) · `store`, `audience_store`, `recipient_store` their statements · `commands`,
`trials` what can be done with it · `routes`, `trial_routes` the routes, `bodies`, `fields`, `answers`, `examples` their
JSON.
"""
