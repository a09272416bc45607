"""What happens to a mailing by itself once it is started: its audience becomes rows, its rounds, its end."""
