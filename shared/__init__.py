"""What two services really use. Nothing here imports a service."""
