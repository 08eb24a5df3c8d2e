"""The fixed instructions a model is given; no setting, question or retrieved text can replace them."""
