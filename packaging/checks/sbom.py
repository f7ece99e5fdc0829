"""Validates a bill of materials by the schema of CycloneDX."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as file:
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
assert errors is None, errors
print("everything as it should be")
