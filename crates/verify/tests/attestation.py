"""Reads an attestation as others' libraries do: `attestation.py FILE KEY SCHEMA`.

KEY is the public key in hexadecimal and its id, with a colon between them. Prints the subjects.
"""

import json
import sys

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from jsonschema import Draft202012Validator
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

path, key, schema = sys.argv[1:]
public, keyid = key.split(":", 1)
with open(path, encoding="utf-8") as file:
    envelope = Envelope.from_dict(json.load(file))
envelope.verify([SSlibKey(keyid, "ed25519", "ed25519", {"public": public})], 1)
assert envelope.payload_type == "application/vnd.in-toto+json", envelope.payload_type

read = json_format.Parse(envelope.payload, statement_pb2.Statement())
Statement.copy_from_pb(read).validate()

statement = json.loads(envelope.payload)
with open(schema, encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
assert statement["predicateType"] == schema["$id"], statement["predicateType"]
Draft202012Validator(schema).validate(statement["predicate"])
for subject in statement["subject"]:
    print(subject["name"], subject["digest"]["sha256"])
