"""The signal model that design and fit share: lineshape, macromolecules, baseline, Fisher information."""
