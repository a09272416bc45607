"""Contacts: whom an account may write to, and what it knows of them.

`identity` who a recipient is · `contact`, `bodies`, `answers` a contact as it is kept, sent and told · `store`,
`routes`, `reading_routes` · `receiving`, `import_store`, `import_routes` files that come in (read by
services/scheduler/importing) · `exporting`, `export_routes` those that go out · `erasing_store`, `erasing_routes` what
is erased, and the proof of it.
"""
