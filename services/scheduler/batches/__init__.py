"""Batches: up to 100,000 mails uploaded at once, stored, and handed out in their turn (services/scheduler/pacing).

`splitting` an upload into items as it comes · `judging` items (pure) · `receiving` an upload · `progress` what is told
of a batch (pure) · `watching` it as it runs · `ending` its last word on schedule.tick · `answers`, `examples` the API's
JSON · `routes`, `control`, `items`, `live` the routes.
"""
