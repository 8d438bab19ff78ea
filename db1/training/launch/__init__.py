"""Starting a training on several processes and machines."""
