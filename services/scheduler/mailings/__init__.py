"""Mailings: one content to an audience of contacts, or to an uploaded list, and what became of each.

Here stands what a mailing is: `mailing`, `audience`, `hours`, `states`, `variables`, `content`, with `defining`, which
says what may be one (pure) · `store`, `audience_store` its statements · `commands` and `routes` for making, reading and
changing it, `bodies`, `fields`, `answers`, `examples` their JSON.

What is done with one has rooms of its own: `trials` looks at it before it is sent, `control` is the hand on it,
`course` what happens to it by itself once it is started (`jobs` are its scheduled tasks), `standing` how it stands and
who got it. `api` and `parts` put it all together.
"""
