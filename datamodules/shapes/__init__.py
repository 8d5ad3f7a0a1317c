"""The world of RefShapes: what there is, how it looks and how it is spoken of."""
