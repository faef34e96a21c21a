"""Pictures of what ran when, and of studies."""
