"""Language models that answer: on an accelerator in RTL, by its exact model, or by the golden model."""
