"""Compares answers with docs/openapi.json: what the document promises is what comes."""

import json
import os
import re

import jsonschema

with open(os.environ["DOCUMENT"], encoding="utf-8") as file:
    DOCUMENT = json.load(file)

#: The operations of which an answer was compared.
SEEN = set()


def find(method, path):
    """The operation of a call."""
    path = path.split("?")[0]
    found = []
    for template, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in methods:
            found.append((template.count("{"), methods[method.lower()]))
    assert found, f"{method} {path} is not in the document"
    # What is written out comes before what is variable, as in the router.
    return min(found, key=lambda one: one[0])[1]


def compare(method, path, answer):
    """Compares a successful answer."""
    operation = find(method, path)
    content = operation["responses"]["200"]["content"]["application/json"]
    check(content["schema"], answer)
    SEEN.add(operation["operationId"])


def problem(details):
    """Compares a refusal."""
    check({"$ref": "#/components/schemas/Problem"}, details)


def check(schema, value):
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def watch(transport):
    """Compares every answer that a client reads from now on."""
    ask = transport.ask

    def compared(method, path, query, body):
        answer = ask(method, path, query, body)
        compare(method, path, answer)
        return answer

    transport.ask = compared
