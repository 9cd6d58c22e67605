"""Reads streamed answers of the local host with boto3.

The arguments are the host's URL and the function's name.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config

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


def stream(event):
    """The pieces of the answer, joined, and how it ended."""
    answer = client.invoke_with_response_stream(
        FunctionName=function, Payload=json.dumps(event), LogType="Tail"
    )
    check(answer["StatusCode"] == 200, answer)
    check(answer["ExecutedVersion"] == "$LATEST", answer)
    events = list(answer["EventStream"])
    pieces = [event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event]
    check("InvokeComplete" in events[-1], events)
    return b"".join(pieces), events[-1]["InvokeComplete"]


body, end = stream({"stream": [{"send": "one, "}, {"print": "between"}, {"sleep": 5}, {"send": "two"}]})
check(body == b"one, two", body)
check("ErrorCode" not in end, end)
check(b"between" in base64.b64decode(end["LogResult"]), end)

body, end = stream({"stream": [{"send_bytes": 1 << 20}]})
check(body == b"x" * (1 << 20), len(body))

body, end = stream({"stream": [{"send": "half"}, {"sleep": 5}, {"fail": "no paper"}]})
check(body == b"half", body)
check(end["ErrorCode"] == "Failed", end)
check(json.loads(end["ErrorDetails"])["errorMessage"] == "no paper", end)

answer = client.invoke(FunctionName=function, Payload=json.dumps({"stream": [{"send": "1"}]}))
check(json.load(answer["Payload"]) == 1, "the collected payload")

try:
    client.invoke_with_response_stream(FunctionName="missing", Payload="{}")
    sys.exit("not refused")
except client.exceptions.ResourceNotFoundException:
    pass

print("streams work")
