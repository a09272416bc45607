"""The way in: HTTP requests become events, and events become the status and timeline of every mail.

`api` the HTTP side · `bodies`, `composing`, `accepting` from request to event · `worker`, `projection`, `store` the
read model · `views`, `answers` what a caller sees of it.
"""
