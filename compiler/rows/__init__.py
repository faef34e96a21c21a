"""Operations on rows for a chip: where rows lie, passes over them, and epochs."""
