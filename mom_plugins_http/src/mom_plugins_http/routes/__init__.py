"""Operations of the API: each resource has a file with its models."""
