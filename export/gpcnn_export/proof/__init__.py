"""The proof that an engine is the model that was trained."""
