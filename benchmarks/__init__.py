"""The asv suite: one file a question; `common` holds what they share."""
