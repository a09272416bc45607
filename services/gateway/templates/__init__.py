"""Stored templates: kept in versions, checked when they are saved, put whole into the event of each mail (R8).

`content` the rules · `store` the SQL · `lookup` from `template` in a mail to its content · `bodies`, `routes` the HTTP
side.
"""

from services.gateway.templates.content import StoredTemplate
from services.gateway.templates.lookup import TemplateLookup, complain
from services.gateway.templates.routes import setup_templates
from services.gateway.templates.store import TemplateStore

__all__ = ["StoredTemplate", "TemplateLookup", "TemplateStore", "complain", "setup_templates"]
