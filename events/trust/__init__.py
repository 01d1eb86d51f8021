"""Who may do what on the bus, and who said what: keys, tokens, permissions and signatures."""
