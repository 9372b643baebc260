"""Create the event bus of the example destination on the stand-in for AWS: a missing bus gets no events."""

import os

import botocore.session
from botocore.exceptions import ClientError

events = botocore.session.get_session().create_client(
    "events", endpoint_url=os.environ["PUSHRAIL_EVENTBRIDGE__ENDPOINT_URL"]
)
try:
    events.create_event_bus(Name="pushrail-events")
except ClientError as error:
    if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
        raise
