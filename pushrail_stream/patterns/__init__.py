"""Event patterns in EventBridge's own language, for filters of destinations and for the rules of the sandbox's bus.

Semantics: EventBridge User Guide, "Creating Amazon EventBridge event patterns" and "Comparison operators for use in
event patterns in Amazon EventBridge", and the rules that github.com/aws/event-ruler tests. Where the two differ, the
engine counts:

* Numbers compare by value: 300, 300.0 and 3e2 are equal. (The guide says that they compare as they are written.)

Differences from EventBridge:

* An IP address in a list of values matches as text; ``cidr`` compares addresses.
* Two paths to one list, as in ``{"items": {"a": [1]}, "$or": [{"items": {"b": [2]}}, ...]}``, may match in different
  elements of it. Fields below one path match in the same element.
* Numbers have the range and digits of JSON; EventBridge documents -5e9 to 5e9 with 15 digits.
"""

from pushrail_stream.patterns.compiler import compile_pattern
from pushrail_stream.patterns.values import PatternError, Test

__all__ = ["PatternError", "Test", "compile_pattern"]
