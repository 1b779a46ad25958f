"""What two or more of the numbered scripts share: paths, constants and a few pieces of work."""
