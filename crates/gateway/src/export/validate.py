"""Validates OCSF events, one JSON object on each line of the standard input, against the schema
of their own version, class and profiles. Nothing that the schema does not know passes, and
neither do members of profiles that an event does not name."""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

schemas = {}
validators = {}
count = 0
bad = 0
for line in sys.stdin:
    event = json.loads(line)
    count += 1
    version = event["metadata"]["version"]
    profiles = event["metadata"]["profiles"]
    if version not in schemas:
        schemas[version] = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
    schema = schemas[version]
    key = (version, event["class_uid"], tuple(profiles))
    if key not in validators:
        name = schema.lookup_class_name_from_uid(event["class_uid"])
        validators[key] = Draft202012Validator(schema.get_class_schema(name, list(profiles)))
    for error in validators[key].iter_errors(event):
        bad += 1
        print(f"event {count}: {error.json_path}: {error.message}")
print(f"{count} events, {bad} errors")
sys.exit(1 if bad or not count else 0)
