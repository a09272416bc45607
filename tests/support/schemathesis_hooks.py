"""What schemathesis needs to know of us beyond the OpenAPI document: lines of JSON are sent as they are written."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
