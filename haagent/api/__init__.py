"""What others may ask of the agent: status, orders, and what must be measured; and what agents say to each other."""
