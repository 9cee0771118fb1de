"""What explains each component: its OpenAPI 3.1 document, and a page to read and try it by.

The document is written out and not derived from the handlers, which take raw bytes on purpose. Its
bounds are the rules' own constants, and its examples of errors are what the rules answer, each made
by breaking the rule. Schemathesis holds what a server answers against it.
"""

from pulse.http.openapi.document import Tag, document
from pulse.http.openapi.faults import Fault, fault_of
from pulse.http.openapi.operations import (
    answer,
    json_body,
    link_to_order,
    operation,
    path_parameter,
    query_parameter,
)
from pulse.http.openapi.page import explaining_routes

__all__ = [
    "Fault",
    "Tag",
    "answer",
    "document",
    "explaining_routes",
    "fault_of",
    "json_body",
    "link_to_order",
    "operation",
    "path_parameter",
    "query_parameter",
]
