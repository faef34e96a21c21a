"""Operations as arrays see them: steps over K, column tiles, units of activations."""
