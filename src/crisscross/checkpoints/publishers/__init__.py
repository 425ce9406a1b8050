"""Other publishers' names of tensors, and what their files tell beside them."""
