"""Pictures of a recording: what happened to the host's memory and to its guests, at one look."""
