"""The pages floor: figures, rich display, the notebook chain and its HTML."""
