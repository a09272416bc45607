"""Examples of uploads, for the API's documentation."""

CSV_EXAMPLES = {
    "winners": {
        "summary": "A header row, and a recipient a row: other columns become variables",
        "value": "address,name,timezone,prize\nann@example.org,Ann,Europe/Berlin,a boat\nbob@example.net,Bob,,a book\n",
    }
}
LINE_EXAMPLES = {
    "winners": {
        "summary": "The same, a recipient a line",
        "value": '{"address": "ann@example.org", "name": "Ann", "timezone": "Europe/Berlin", '
        '"variables": {"prize": "a boat"}}\n{"address": "bob@example.net", "name": "Bob", '
        '"variables": {"prize": "a book"}}\n',
    }
}
