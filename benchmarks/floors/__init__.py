"""What nothing that does the work can beat: the same without storing, a bare answer."""
