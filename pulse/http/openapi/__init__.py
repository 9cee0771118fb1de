"""The OpenAPI document of each component, and a page to read it and try the calls."""
