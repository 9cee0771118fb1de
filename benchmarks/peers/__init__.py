"""What somebody would use instead of Pulse, each as its own documentation has it."""
