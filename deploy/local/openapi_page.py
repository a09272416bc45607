"""docs/openapi.json: the OpenAPI document of all services, as `/openapi.json` answers it.

`python -m deploy.local.openapi_page [--check]`.
"""

import json
import sys

from deploy.local.api import create_apis
from deploy.local.openapi import describe_apis
from shared.generated_pages import DOCS, keep_page

PAGE = DOCS / "openapi.json"


def render() -> str:
    """The file's content."""
    return json.dumps(describe_apis(create_apis()), indent=1, ensure_ascii=False, sort_keys=False) + "\n"


if __name__ == "__main__":
    sys.exit(keep_page(PAGE, render, sys.argv[1:]))
