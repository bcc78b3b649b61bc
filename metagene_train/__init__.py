"""Everything a real run is made of: reads, labels, batches, the model, training and prediction."""

__version__ = "0.1.0"
