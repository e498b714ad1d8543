"""What a log stream holds, as boto3 reads it: `read_logs.py GROUP STREAM`; one line of JSON."""

import json
import sys

import boto3

group, stream = sys.argv[1:]
answer = boto3.client("logs").get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
retention = boto3.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"][0].get("retentionInDays")
print(json.dumps({"messages": [event["message"] for event in answer["events"]], "retention_days": retention}))
