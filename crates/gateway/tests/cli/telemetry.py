"""Reads one message of OTLP from standard input by OpenTelemetry's definitions; writes JSON."""

import base64
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
IDS = {"traceId", "spanId", "parentSpanId"}


def hexadecimal(value):
    """Ids as people write them: JSON has bytes in base64."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(own).hex() if key in IDS else hexadecimal(own)
            for key, own in value.items()
        }
    return [hexadecimal(own) for own in value] if isinstance(value, list) else value


message = KINDS[sys.argv[1]]()
message.ParseFromString(sys.stdin.buffer.read())
json.dump(hexadecimal(MessageToDict(message)), sys.stdout)
