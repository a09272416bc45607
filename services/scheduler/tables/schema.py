"""What every table of the schema hangs on."""

from sqlalchemy import MetaData

SCHEMA = "scheduler"
metadata = MetaData(schema=SCHEMA)
