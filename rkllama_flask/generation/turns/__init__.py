"""How a model writes its turns, found out from its own chat template, and read accordingly."""
