"""An S3 server on loopback that checks signatures: moto's, with one user who may use one bucket.

Prints its address and the user's key as one line of JSON. Each line that comes in then is a Python
expression to look into the bucket with (`s3`, boto3's client): its value is printed as JSON.
`public` lets everybody read from then on, as a public bucket does.
"""

import json
import logging
import sys

import boto3
from moto import settings
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"


def client(service, key="root", secret="root"):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1",
                        aws_access_key_id=key, aws_secret_access_key=secret)


iam = client("iam")
iam.create_user(UserName="clawgate")
may = [
    {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::logs/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::logs"},
]
iam.put_user_policy(UserName="clawgate", PolicyName="p",
                    PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": may}))
key = iam.create_access_key(UserName="clawgate")["AccessKey"]
client("s3").create_bucket(Bucket="logs")
s3 = client("s3")
# From now on every request is judged by its signature and by the user's policy.
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
print(json.dumps({"url": url, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)

for line in sys.stdin:
    checked, settings.INITIAL_NO_AUTH_ACTION_COUNT = settings.INITIAL_NO_AUTH_ACTION_COUNT, float("inf")
    if line.strip() == "public":
        checked, value = float("inf"), None
        s3.put_bucket_policy(Bucket="logs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::logs/*"}]}))
    else:
        value = eval(line)
    settings.INITIAL_NO_AUTH_ACTION_COUNT = checked
    print(json.dumps(value, default=str), flush=True)
