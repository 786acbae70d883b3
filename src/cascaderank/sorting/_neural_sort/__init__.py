"""Memory-efficient forms of NeuralSort."""
