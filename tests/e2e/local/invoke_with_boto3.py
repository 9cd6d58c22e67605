"""Invokes a function of the local host with boto3, in each of the three ways.

The arguments are the host's URL and the function's name.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

url, function = sys.argv[1:]
client = boto3.client(
    "lambda",
    endpoint_url=url,
    region_name="eu-central-1",
    aws_access_key_id="none",
    aws_secret_access_key="none",
    config=Config(retries={"total_max_attempts": 1}),
)


def check(truth, what):
    if not truth:
        sys.exit(f"not as it should be: {what}")


answer = client.invoke(FunctionName=function, Payload=json.dumps({"act": "count"}), LogType="Tail")
check(answer["StatusCode"] == 200, answer)
check(json.load(answer["Payload"])["act"] == 1, "the payload")
check("FunctionError" not in answer, answer)
check(answer["ExecutedVersion"] == "$LATEST", answer)
check("LogResult" in answer, answer)

answer = client.invoke(FunctionName=function, InvocationType="DryRun", Payload="{}")
check(answer["StatusCode"] == 204, answer)

answer = client.invoke(FunctionName=function, InvocationType="Event", Payload="{}")
check(answer["StatusCode"] == 202, answer)

answer = client.invoke(FunctionName=function, Payload=json.dumps({"act": "fail"}))
check(answer["StatusCode"] == 200, answer)
check(answer["FunctionError"] == "Unhandled", answer)
check(json.load(answer["Payload"])["errorType"] == "Misbehaved", "the error")

arn = f"arn:aws:lambda:eu-central-1:123456789012:function:{function}"
answer = client.invoke(FunctionName=arn, Payload="{}")
check(answer["StatusCode"] == 200, answer)

for name, payload, exception in [
    ("missing", "{}", client.exceptions.ResourceNotFoundException),
    (function, "{", client.exceptions.InvalidRequestContentException),
]:
    try:
        client.invoke(FunctionName=name, Payload=payload)
        sys.exit(f"not refused: {name} {payload}")
    except exception:
        pass
    except ClientError as error:
        sys.exit(f"{name} {payload}: another error, {error!r}")

# The client's model has no exceptions for these, as with Lambda itself.
for arguments, code in [
    ({"FunctionName": "a b"}, "ValidationException"),
    ({"InvocationType": "Other"}, "ValidationException"),
    ({"Payload": b" " * (6 * 1024 * 1024 + 1)}, "RequestEntityTooLargeException"),
]:
    try:
        client.invoke(**{"FunctionName": function, **arguments})
        sys.exit(f"not refused: {code}")
    except ClientError as error:
        check(error.response["Error"]["Code"] == code, error.response)
        check(error.response["Error"]["Message"], error.response)

print("all three ways work")
