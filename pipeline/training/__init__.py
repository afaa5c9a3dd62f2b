"""Training from datasets: pictures and label maps are read here, networks learn in models/."""
