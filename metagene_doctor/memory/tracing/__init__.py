"""Recording a training step on fake tensors, and formulas for its sizes."""
