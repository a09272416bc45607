"""Looking at a mailing before it is sent: how it reads, a test mail, and what would become of it."""
