"""From a submitted file of any kind to code cells that are ready to run."""
