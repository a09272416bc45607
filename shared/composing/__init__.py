"""From a mail that somebody asks for over HTTP to its event: one way, for every API that takes mail.

`forms` the full form and its reading · `composer` the event · `attachments` what may be attached · `refusing` what a
caller is told where there can be none · `settings` what an operator may say of it.
"""
