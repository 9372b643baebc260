"""The oracle: it sees a story from outside, and says which promises of the product were broken."""
