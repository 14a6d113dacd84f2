"""All that knows of zeros in the inputs: columns and terms that are left out, and how."""
