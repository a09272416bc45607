"""Stored templates: what is declared, what is missing, what a mail takes from one."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.templates.bodies import TemplateContent, show_template
from services.gateway.templates.content import Content, StoredTemplate, Variable, complete, preview
from services.gateway.templates.lookup import TemplateLookup
from services.gateway.templates.store import TemplateStore
from shared.composing.composer import UnacceptableFields
from shared.composing.forms import read_full
from shared.database import DatabaseUnavailable
from shared.problems import Problem

MAIL = {"from": "a@example.com", "to": ["b@example.org"]}


def build(html: str, subject: str = "s", text: str | None = None, **variables: dict[str, Any]) -> Content:
    body = {"subject": subject, "html": html, "text": text, "variables": variables}
    return complete(TemplateContent.model_validate(body).to_content())


def pointers(exc: UnacceptableFields | Problem) -> list[str]:
    return [error["pointer"] for error in exc.errors]


class TestDeclaring:
    def test_what_is_used_and_not_declared_is_required_unless_the_template_does_without(self) -> None:
        content = build("{{ name }} {{ nick|default('x') }} {{ plan }}", subject="{{ nick }}", plan={"default": "free"})
        assert {name: (each.required, each.has_default) for name, each in content.variables.items()} == {
            "plan": (False, True),
            "name": (True, False),
            "nick": (False, False),
        }

    def test_a_declaration_says_more_than_the_use(self) -> None:
        content = build("{% if bonus is defined %}{{ bonus }}{% endif %}", bonus={"description": "in euro"})
        assert content.variables == {"bonus": Variable(required=True, description="in euro")}

    def test_null_is_a_default(self) -> None:
        content = build("{% if bonus %}{{ bonus }}{% endif %}", bonus={"default": None})
        assert content.find_missing({}) == []
        assert preview(content, {}).html == ""

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"html": "\n{{ a b }}"}, "/html"),
            ({"html": "{{ a|shout }}"}, "/html"),
            ({"html": "x", "text": "{% include 'x' %}"}, "/text"),
            ({"html": "x", "variables": {"self": {}}}, "/variables/self"),
            ({"html": "".join(f"{{{{ v{n} }}}}" for n in range(201))}, "/variables"),
        ],
    )
    def test_what_no_mail_could_render_is_pointed_at(self, body: dict[str, Any], pointer: str) -> None:
        with pytest.raises(UnacceptableFields) as caught:
            complete(TemplateContent.model_validate({"subject": "s", **body}).to_content())
        assert pointers(caught.value) == [pointer]

    @pytest.mark.parametrize(
        "body", [{}, {"html": "a\0b"}, {"html": "x", "variables": {"a": {"default": 1, "required": 1}}}]
    )
    def test_what_is_no_content(self, body: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            TemplateContent.model_validate({"subject": "s", **body})

    def test_equal_content_has_an_equal_digest(self) -> None:
        one, same = (build("{{ a }}{{ b }}", b={"default": 1}) for _ in range(2))
        assert one.compute_digest() == same.compute_digest()
        assert one.compute_digest() != build("{{ a }}{{ b }}", b={"default": 2}).compute_digest()
        assert one.compute_digest() != build("{{ a }}{{ b }}", b={"default": None}).compute_digest()


class TestPreview:
    def test_a_missing_variable_stands_as_its_name(self) -> None:
        shown = preview(build("<p>{{ name }}, {{ plan }}</p>", plan={"default": "<free>"}), {})
        assert shown.html == "<p>{{ name }}, &lt;free&gt;</p>"
        assert shown.missing == ["name"]
        assert shown.errors == []

    def test_a_field_that_cannot_be_rendered_leaves_the_others(self) -> None:
        shown = preview(build("{{ user.name }}", text="hello"), {"user": {}})
        assert (shown.html, shown.text) == (None, "hello")
        assert [error["pointer"] for error in shown.errors] == ["/variables/user/name"]


class Store(TemplateStore):
    """One template, in two versions."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def find(self, account: str, name: str, version: int | None = None) -> StoredTemplate | None:
        self.asked += 1
        if self.away:
            raise DatabaseUnavailable("away")
        if (account, name) != ("shop", "welcome") or version not in (None, 1, 2):
            return None
        content = build(
            "{{ first }} {{ last }}", subject="{{ hi }}", hi={"default": "Hi"}, last={"description": "surname"}
        )
        return StoredTemplate("welcome", version or 2, content, datetime.now(UTC), "k")


async def resolve(store: Store, account: str = "shop", **fields: Any) -> dict[str, Any]:
    return await TemplateLookup(store).resolve(account, {**MAIL, **fields})


class TestSending:
    async def test_a_mail_takes_content_defaults_and_the_version(self) -> None:
        fields = await resolve(Store(), template={"name": "welcome"}, variables={"first": "A", "last": "B", "more": 1})
        mail = read_full(fields, None)
        assert (mail.subject, mail.html, mail.text) == ("{{ hi }}", "{{ first }} {{ last }}", None)
        assert mail.variables == {"hi": "Hi", "first": "A", "last": "B", "more": 1}
        assert mail.template is not None
        assert (mail.template.name, mail.template.version) == ("welcome", 2)

    async def test_every_missing_variable_is_named_with_its_description(self) -> None:
        with pytest.raises(Problem) as caught:
            await resolve(Store(), template={"name": "welcome"})
        assert sorted(pointers(caught.value)) == ["/variables/first", "/variables/last"]
        assert "surname" in str(caught.value.errors)

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"template": "welcome"}, "/template"),
            ({"template": {}}, "/template/name"),
            ({"template": {"name": "welcome", "version": 0}}, "/template/version"),
            ({"template": {"name": "welcome", "version": 3}}, "/template/version"),
            ({"template": {"name": "none"}}, "/template/name"),
            ({"template": {"name": "none", "version": 3}}, "/template/name"),
            ({"template": {"name": "welcome"}, "subject": "x"}, "/subject"),
            ({"template": {"name": "welcome"}, "html": ""}, "/html"),
            ({"template": {"name": "welcome"}, "variables": [1]}, "/variables"),
        ],
    )
    async def test_what_cannot_be_taken_is_pointed_at(self, fields: dict[str, Any], pointer: str) -> None:
        with pytest.raises(Problem) as caught:
            await resolve(Store(), **fields)
        assert (caught.value.status, pointers(caught.value)) == (422, [pointer])

    async def test_another_account_has_not_got_it(self) -> None:
        with pytest.raises(Problem) as caught:
            await resolve(Store(), "other", template={"name": "welcome"})
        assert pointers(caught.value) == ["/template/name"]

    async def test_it_is_asked_for_once_and_goes_on_with_postgresql_away(self) -> None:
        store = Store()
        lookup, fields = TemplateLookup(store), {"template": {"name": "welcome"}, "variables": {"first": 1, "last": 2}}
        for _ in range(3):
            await lookup.resolve("shop", fields)
        assert store.asked == 1
        store.away = True
        await lookup.resolve("shop", fields)
        with pytest.raises(Problem) as caught:
            await lookup.resolve("shop", {"template": {"name": "welcome", "version": 1}})
        assert caught.value.status == 503

    async def test_a_mail_without_a_template_is_left_alone(self) -> None:
        store = Store()
        fields = {**MAIL, "subject": "s", "text": "{{ x }}"}
        assert await TemplateLookup(store).resolve("shop", fields) is fields
        assert store.asked == 0

    def test_the_reference_alone_is_no_template(self) -> None:
        with pytest.raises(Problem) as caught:
            read_full({**MAIL, "subject": "s", "text": "t", "template": {"name": "welcome", "version": 1}}, None)
        assert pointers(caught.value) == ["/template"]


def test_a_null_default_is_shown_and_no_default_is_not() -> None:
    content = build("{{ a }}{{ b }}", a={"default": None}, b={})
    shown = show_template(StoredTemplate("t", 1, content, datetime.now(UTC), "k"))
    assert shown.model_dump(exclude_unset=True)["variables"] == {
        "a": {"required": False, "default": None},
        "b": {"required": True},
    }
