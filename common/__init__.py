"""What all rooms share: paths, constants, options, messages, errors, and files that appear complete or not at all."""
