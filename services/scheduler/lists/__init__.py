"""Lists of recipients, uploaded for mailings: an address and variables a row.

`recipient_list` says what one is (pure) · `receiving` an upload · `store` their statements · `parts`, `cleaning_store`
how they go · `routes`, `reading_routes` the routes, `answers`, `examples` their JSON.
"""
