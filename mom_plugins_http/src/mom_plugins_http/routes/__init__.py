"""What is answered: each resource in a file with its models."""
