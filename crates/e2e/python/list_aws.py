"""What Amazon's own Python client sees at AWS_ENDPOINT_URL: dashboards and scalable targets, as one JSON line."""

import json

import boto3


def main():
    cloudwatch = boto3.client("cloudwatch")
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    dashboards = {
        entry["DashboardName"]: json.loads(cloudwatch.get_dashboard(DashboardName=entry["DashboardName"])["DashboardBody"])
        for page in pages
        for entry in page["DashboardEntries"]
    }
    autoscaling = boto3.client("application-autoscaling")
    pages = autoscaling.get_paginator("describe_scalable_targets").paginate(ServiceNamespace="ecs")
    targets = {
        target["ResourceId"]: [target["MinCapacity"], target["MaxCapacity"]]
        for page in pages
        for target in page["ScalableTargets"]
    }
    widgets = {name: len(body["widgets"]) for name, body in dashboards.items()}
    print(json.dumps({"dashboards": widgets, "scalable_targets": targets}))


if __name__ == "__main__":
    main()
