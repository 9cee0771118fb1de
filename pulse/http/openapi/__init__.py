"""What explains each component: its OpenAPI document, and a page to read and try it by."""
