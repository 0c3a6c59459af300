"""The data floor: sources into the contract, synthetic customers, and the run folders."""
