"""Writes src/clawgate/models.py and src/clawgate/operations.py from docs/openapi.json.

Run it after `cargo xtask docs`:

    python clients/python/generate.py

With --check it writes nothing and fails when a file is not what it would write. It needs nothing but
Python. It knows the schemas that the document has, and stops at one that it does not know.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "openapi.json"
PACKAGE = HERE / "src" / "clawgate"

MADE = '# Made by generate.py from docs/openapi.json; changes here are lost.\n'
SCHEMAS = "#/components/schemas/"
METHODS = ("get", "post", "put", "patch", "delete")
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def type_of(schema: Any) -> str:
    """The Python type of a schema."""
    if schema is True:
        return "Any"
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(SCHEMAS)
    if "anyOf" in schema:
        return " | ".join(type_of(one) for one in schema["anyOf"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(type_of({**schema, "type": one}) for one in kind)
    if "enum" in schema:
        return "Literal[" + ", ".join(json.dumps(word) for word in schema["enum"]) + "]"
    if kind == "array":
        return f"list[{type_of(schema.get('items', True))}]"
    if kind == "object" and "properties" not in schema:
        return "dict[str, Any]"
    if kind is None and not set(schema) - {"description", "default"}:
        return "Any"
    if kind in PLAIN:
        return PLAIN[kind]
    raise SystemExit(f"generate.py does not know the schema {json.dumps(schema)}")


def docstring(text: str, indent: str) -> str:
    """A docstring; nothing when there is nothing to say."""
    text = " ".join(text.replace("\\", "\\\\").split())
    if not text:
        return ""
    return textwrap.fill(
        f'"""{text}."""'.replace('.."""', '."""'), 100, initial_indent=indent, subsequent_indent=indent
    ) + "\n"


def model(name: str, schema: Any) -> str:
    """A schema of the document as a Python type."""
    members = schema.get("properties")
    if members is None:
        says = " ".join(schema.get("description", "").split())
        comment = f"# {says}\n" if says else ""
        return f"{comment}{name}: TypeAlias = {wrapped(type_of(schema))}\n"
    required = set(schema.get("required", []))
    if any(keyword.iskeyword(one) for one in members):
        if required != set(members):
            raise SystemExit(f"generate.py cannot write {name}: a keyword, and what may be absent")
        inner = "".join(f'        "{one}": {type_of(members[one])},\n' for one in members)
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{inner}    }},\n)\n'
    body = docstring(schema.get("description", ""), "    ")
    written = ""
    always = [one for one in members if one in required]
    sometimes = [one for one in members if one not in required]
    base = "TypedDict"
    # `NotRequired` came with Python 3.11.
    if always and sometimes:
        base = f"_{name}"
        written = f"class {base}(TypedDict):\n" + "".join(map(member(members), always)) + "\n\n"
        always = []
    total = ", total=False" if sometimes else ""
    lines = "".join(map(member(members), always + sometimes)) or "    pass\n"
    return f"{written}class {name}({base}{total}):\n{body}{lines}"


def member(members: Any) -> Any:
    """Writes one member of a type."""

    def line(name: str) -> str:
        schema = members[name]
        says = schema.get("description", "") if isinstance(schema, dict) else ""
        comment = "".join(f"    # {one}\n" for one in textwrap.wrap(" ".join(says.split()), 94))
        return f'{comment}    {name}: {type_of(schema)}\n'

    return line


def wrapped(text: str) -> str:
    """A type that may be too long for a line."""
    if len(text) < 60 or not text.startswith("Literal["):
        return text
    words = text.removeprefix("Literal[").removesuffix("]").split(", ")
    return "Literal[\n" + "".join(f"    {word},\n" for word in words) + "]"


def models(document: Any) -> str:
    """All types."""
    schemas = document["components"]["schemas"]
    # A name that stands on the right of `=` must have been said before; in classes it need not.
    aliases = {name for name, schema in schemas.items() if not {"properties", "$ref"} & set(schema)}
    order = sorted(schemas, key=lambda name: (name not in aliases, "$ref" in schemas[name], name))
    head = (
        f'"""What the operator API takes and answers."""\n\n{MADE}\n'
        "from __future__ import annotations\n\n"
        "from typing import Any, Literal, TypeAlias, TypedDict\n\n"
    )
    return head + "\n" + "\n\n".join(model(name, schemas[name]) for name in order)


def parameter(name: str) -> str:
    """A parameter's name in Python."""
    return f"{name}_" if keyword.iskeyword(name) else name


def operation(path: str, method: str, described: Any) -> str | None:
    """A method that makes one call; none for answers that go on and for Terraform Cloud's calls."""
    answers = described["responses"]["200"].get("content", {})
    agents = any("scoped_token" in one for one in described["security"])
    media = next(iter(answers), None)
    if agents or media is None or not (media == "application/json" or media == "text/plain"):
        return None
    answer = type_of(answers[media]["schema"])
    arguments = ["self"]
    query: list[str] = []
    address = json.dumps(path)
    keywords: list[str] = []
    for one in described.get("parameters", []):
        name, kind = parameter(one["name"]), type_of(one["schema"])
        if one["in"] == "path":
            arguments.append(f"{name}: {kind}")
            address = address.replace("{" + one["name"] + "}", "{quoted(" + name + ")}")
            continue
        query.append(f'{json.dumps(one["name"])}: {name}')
        keywords.append(f"{name}: {kind}" if one["required"] else f"{name}: {kind} | None = None")
    body = described.get("requestBody")
    if body:
        arguments.append(f'body: {type_of(body["content"]["application/json"]["schema"])}')
    if keywords:
        arguments += ["*", *keywords]
    if "{" in address:
        address = "f" + address
    sent = f"{{{', '.join(query)}}}" if query else "None"
    call = f'self._call("{method.upper()}", {address}, {sent}, {"body" if body else "None"}'
    call += ', as_text=True)' if media == "text/plain" else ")"
    says = docstring(described["summary"], "        ")
    return (
        f'    def {described["operationId"]}({", ".join(arguments)}) -> {answer}:\n{says}'
        f"        answer: {answer} = {call}\n        return answer\n"
    )


def operations(document: Any) -> str:
    """The class of all operations."""
    methods = []
    for path, described in document["paths"].items():
        for method in METHODS:
            if method in described:
                methods.append(operation(path, method, described[method]))
    written = [one for one in methods if one]
    text = "\n".join(written)
    names = [name for name in document["components"]["schemas"] if uses(text, name)]
    imports = "".join(f"    {name},\n" for name in sorted(names))
    return (
        f'"""Every operation of the operator API that answers at once."""\n\n{MADE}\n'
        "from __future__ import annotations\n\n"
        "from abc import ABC, abstractmethod\nfrom collections.abc import Mapping\n"
        "from typing import Any\n\n"
        f"from .models import (\n{imports})\nfrom .transport import quoted\n\n\n"
        "class Operations(ABC):\n"
        '    """One method for each operation, under its name in the document."""\n\n'
        "    @abstractmethod\n"
        "    def _call(\n        self,\n        method: str,\n        path: str,\n"
        "        query: Mapping[str, object] | None,\n        body: object,\n        *,\n"
        "        as_text: bool = False,\n    ) -> Any:\n"
        '        """Makes one call."""\n\n' + text
    )


def uses(text: str, name: str) -> bool:
    """Whether a type stands in the text."""
    return re.search(rf"\b{name}\b", text) is not None


def main() -> None:
    """Writes the files, or compares them."""
    document = json.loads(DOCUMENT.read_text())
    for name, text in (("models.py", models(document)), ("operations.py", operations(document))):
        file = PACKAGE / name
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            raise SystemExit(f"{file.name} is stale: run `python clients/python/generate.py`")


if __name__ == "__main__":
    main()
