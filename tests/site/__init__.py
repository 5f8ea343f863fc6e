"""The documentation site: built, published in versions, and what is made for it from real runs."""
