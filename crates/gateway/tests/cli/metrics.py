"""Reads metrics from standard input with Prometheus' own library and says what it has found."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

found = []
for family in text_string_to_metric_families(sys.stdin.read()):
    labels = {name for sample in family.samples for name in sample.labels}
    found.append(
        {
            "name": family.name,
            "kind": family.type,
            "help": family.documentation,
            "labels": sorted(labels - {"le"}),
        }
    )
    assert family.samples, f"{family.name} has no line"
    lanes = {sample.labels.get("lane") for sample in family.samples}
    for lane in lanes if family.type == "histogram" else ():
        own = [sample for sample in family.samples if sample.labels.get("lane") == lane]
        buckets = [sample.value for sample in own if sample.name.endswith("_bucket")]
        [count] = [sample.value for sample in own if sample.name.endswith("_count")]
        assert buckets == sorted(buckets) and buckets[-1] == count, own
json.dump(found, sys.stdout)
