"""The fault-injecting bus: EventBridge and STS answer as AWS does, and fail as a plan of faults says.

The room's rule: nothing here imports the application, so that an error in one does not hide in the other.
"""
