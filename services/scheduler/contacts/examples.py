"""Examples of files of contacts, for the API's documentation."""

from typing import Any

_CSV = """\
address,name,timezone,tags,plan
ann@example.org,Ann,Europe/Berlin,customer;vip,pro
bob@example.net,"Bob, the other one",,customer,free
"""
_LINES = """\
{"address": "ann@example.org", "name": "Ann", "tags": ["customer", "vip"], "attributes": {"plan": "pro", "seats": 5}}
{"address": "bob@example.net", "attributes": {"plan": "free"}}
"""
IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string", "description": "UTF-8, or in what `charset` says; UTF-16 with a BOM"},
                "examples": {"customers": {"summary": "Customers and their plans", "value": _CSV}},
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "a contact a line, as JSON"},
                "examples": {"customers": {"summary": "The same, with numbers that stay numbers", "value": _LINES}},
            },
        },
    }
}
PROBLEMS_EXAMPLE = "row,line,field,detail\r\n17,18,address,not an email address: there is no @\r\n"
EXPORT_EXAMPLES: Any = {
    200: {
        "description": "All of them",
        "content": {"text/csv": {"example": _CSV}, "application/x-ndjson": {"example": _LINES}},
    }
}
