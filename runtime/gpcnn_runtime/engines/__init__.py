"""The engines that run a model, each in a room of its own."""
