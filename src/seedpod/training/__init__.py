"""The half that the worker image shares: data, model, training and the processes they run in."""
