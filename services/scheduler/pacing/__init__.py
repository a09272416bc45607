"""Paced bulk (R2): all bulk mail together has one window of mails that have had no result yet.

`states`, `lanes`, `rows` what is kept of a mail · `window`, `fairness` how much leaves, and whose (pure) · `messages`
what it is published as · `handing_out`, `results`, `sweeping` the loops · `parts` puts them together.
"""
