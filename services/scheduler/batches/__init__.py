"""Batches: up to 100,000 mails uploaded at once, stored, and handed out in their turn (services/scheduler/pacing).

`body`, `splitting` an upload into items as it comes · `judging` items, `sharing` the short way (pure) · `receiving` an
upload · `numbering` its mails · `progress` what is told of a batch (pure) · `ending` its last word on schedule.tick ·
`retrying` failed mails · `uploading`, `reading`, `control`, `watching` the routes, `answers`, `examples` their JSON.
"""
