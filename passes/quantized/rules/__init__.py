"""What brings a graph nearer to the form that kernels read; each file is one idea, found by its name."""
